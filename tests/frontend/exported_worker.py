"""Runs quantised torch.export graphs under the kernels that the environment chooses; the answer goes to stdout.

With `--inductor` each graph is compiled by Inductor, whose outputs are compared too. A process of its own, since the
variables that choose are read when torch is imported, and compiling leaves settings behind.
"""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from exported_graphs import GRAPHS, exported, image, quantize

from accelsim.frontend import extract, host_kernels, record_values

warnings.filterwarnings("ignore")


def _compare(name: str, *, inductor: bool) -> dict[str, Any]:
    """For one graph: outputs, and how many differ from the kernels and from Inductor's."""
    shape, make = GRAPHS[name]
    model, images = exported(make(), shape), [image(seed, shape) for seed in range(4)]
    network = extract(model, images[0])
    x = torch.cat(images)
    ours, theirs = network.trace(x.numpy()), record_values(model, x, network)
    answer = {
        "outputs": sum(value.size for value in theirs.values()),
        "kernels": sum(int(np.count_nonzero(ours[value] != theirs[value])) for value in theirs),
    }
    if inductor:
        output = network.outputs[0]
        affine = network.values[output].affine
        with torch.no_grad():
            run = torch.compile(model)
            codes = [quantize(run(part), (affine.scale, affine.zero_point)).numpy() for part in images]
        answer["inductor"] = int(np.count_nonzero(np.concatenate(codes) != ours[output]))
    return answer


def main() -> None:
    inductor = "--inductor" in sys.argv
    if inductor:
        from torch._inductor import config

        config.freezing = True  # without it weights are no constants, and no layer is lowered
    answers = {}
    for name in GRAPHS:
        torch._dynamo.reset()
        answers[name] = _compare(name, inductor=inductor)
    print(json.dumps({"kernels": asdict(host_kernels("pt2e")), "graphs": answers}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
