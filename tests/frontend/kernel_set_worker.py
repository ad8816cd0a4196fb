"""Runs operators and layers under the kernels that this process's environment chooses; the answer goes to stdout.

Run as a process of its own, since the variables that choose are read when torch is imported.
"""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import asdict

import torch
from equality import assert_equal_to_pytorch, codes, convolution, engine_set, linear, quantized
from single_operators import ALL, BY_KERNELS, inputs

from accelsim.frontend import host_kernels

warnings.filterwarnings("ignore")


def main() -> None:
    """Compare for each engine named in the arguments; failures come back as text."""
    failures, compared = [], 0
    for engine in sys.argv[1:]:
        # x86's and onednn's operators are fbgemm's.
        layouts = ("contiguous", "channels_last") if engine in ("fbgemm", "qnnpack") else ()
        models = [(name, ALL[name], inputs(layout, "uint8")) for name in BY_KERNELS for layout in layouts]
        with engine_set(engine):
            image = quantized(codes(1, (2, 8, 7, 7)), 0.25, 7)
            models.append(("conv", convolution(3, 8, 12, (3, 3), padding=1, per_channel=True, scale=0.25), image))
            models.append(("grouped", convolution(3, 8, 12, (3, 3), groups=2, scale=0.25), image))
            models.append(("linear", linear(3, 40, 11, scale=0.25), quantized(codes(1, (5, 40)))))
        for name, model, x in models:
            try:
                network = assert_equal_to_pytorch(model, x, engine)
                compared += sum(value.size for value in network.values.values())
            except Exception as error:  # the test shows them all
                failures.append(f"{engine}, {name}: {type(error).__name__}: {error}")
    kernels = {engine: asdict(host_kernels(engine)) for engine in sys.argv[1:]}
    print(json.dumps({"failures": failures, "compared": compared, "kernels": kernels}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
