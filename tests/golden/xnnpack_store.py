"""The stored answers of ExecuTorch's runtime on XNNPACK: operators as plain data, their inputs, the codes that it gave.

`python tests/golden/xnnpack_store.py` asks the installed ExecuTorch again and writes `xnnpack.npz`.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import storing
from xnnpack_specs import specs

from accelsim.arithmetic.affine import Affine

STORE = Path(__file__).with_name("xnnpack.npz")
_SEED = 21


def main() -> None:
    """Ask ExecuTorch and write the store."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "frontend" / "int8_activations"))
    import runtime
    from int8_graphs import chunks

    random, writer = np.random.default_rng(_SEED), storing.Writer()
    every = list(specs(random))
    given = [spec.random_inputs(random) for spec in every]
    for some, codes in chunks(zip(every, given, strict=True)):
        for item in zip(some, codes, runtime.answers(some, codes), strict=True):
            writer.add(*item)
    real = storing.numbers(random)
    grids = [Affine(float(np.float32(s)), z, "int8") for s, z in ((2.0**-4, 0), (0.25, -3), (0.1, 50), (0.037, -77))]
    maps = list(zip(grids, runtime.quantized(real, grids), strict=True))
    writer.write(STORE, real, maps, {name: version(name) for name in ("executorch", "torch")})


if __name__ == "__main__":
    main()
