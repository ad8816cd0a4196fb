"""Mutants of `accelsim/arithmetic`: one rounding, constant or comparison changed by one, and whether the tests notice.

`python tests/arithmetic/mutation.py [--share 0.1] [MODULE ...]` lists the survivors. PyTorch's answers are asked for
once and kept; each mutant then runs the tests of its module in a forked process.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.machinery
import importlib.util
import os
import resource
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "accelsim" / "arithmetic"
KEPT = "ACCELSIM_KEPT_ANSWERS"

#: What the tests of a mutant may take: seconds of the processor for each that the module itself takes, and memory.
PATIENCE, MEMORY = 2, 8 * 2**30

#: Modules whose rules stand here, and the test files that are to notice: of this folder, or named from `tests`.
TESTS = {
    "affine": ("affine", "elementwise", "xnnpack", "golden/test_onnxruntime"),
    "alternatives": ("gemmlowp", "alternatives"),
    "binary32": ("binary32", "affine", "elementwise", "matrix"),
    "certificate": ("certificate",),
    "deviation": ("deviation",),
    "elementwise": ("elementwise", "products", "limits", "xnnpack"),
    "engines": ("limits",),
    "fixed_point": ("multipliers", "certificate"),
    "float_sum": ("float_sum",),
    "integer_float": ("integer_float",),
    "interpolation": ("interpolation",),
    "lanes": ("lanes",),
    "lowered": ("lowered",),
    "matmul": ("products",),
    "matrix": ("matrix", "limits"),
    "multipliers": ("multipliers",),
    "normalization": ("normalization",),
    "offsets": ("offsets",),
    "onednn": ("matrix",),
    "onnxruntime": ("onnxruntime", "golden/test_onnxruntime"),
    "pooling": ("pooling",),
    "reachable": ("certificate",),
    "requantize": ("requantize", "elementwise", "matrix", "pooling"),
    "saturation": ("saturation",),
    "separation": ("separation",),
    "softmax": ("products",),
    "thresholds": ("thresholds",),
    "vector": ("machine/test_vector",),
    "vector_bounds": ("vector_bounds",),
    "words": ("words",),
    "xnnpack": ("xnnpack", "golden/test_xnnpack"),
}

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
}
ROUNDINGS = {"rint": "floor", "floor": "rint", "ceil": "floor"}


_START = "where the search looks next, not what it ends at"

#: Changes that compute the same, by module: the source from the changed place on, the changes, and why.
EQUIVALENT: dict[str, tuple[tuple[str, tuple[str, ...], str], ...]] = {
    "xnnpack": (
        ("x < 0, x * np", ("Lt -> LtE",), "0 times a slope is 0"),
        ("steps >= _INT32", ("GtE -> Gt",), "what is too small becomes the least int32"),
        ("steps <= _INT32", ("LtE -> Lt",), "binary32 has no 2**31 - 1"),
        ("0] for sign", ("0 -> -1",), "a table has one row"),
        ("0] <", ("0 -> -1",), "there is one multiplier"),
        ("0]:g} is", ("0 -> -1",), "there is one multiplier"),
        ("0]:g}, and", ("0 -> -1",), "any of the factors that are refused may be named"),
    ),
    "onnxruntime": (
        ("steps <= _INT32", ("LtE -> Lt",), "binary32 has no 2**31 - 1"),
        ("0)), Operand", ("0 -> 1", "0 -> -1"), "a fused sum has one offset, the second operand's"),
        ("0]):", ("0 -> -1",), "there is one multiplier"),
        ("0]:g}", ("0 -> -1",), "any of the factors that are refused may be named"),
    ),
    "alternatives": (
        ("24, 40)", ("24 -> 25", "24 -> 23"), "a sum that is not 0 is past 8 bits after either shift"),
        ("40).astype", ("40 -> 41", "40 -> 39"), "nothing is left of a sum of 34 bits after either shift"),
        ("26\n", ("26 -> 27", "26 -> 25"), "both partial products fit 64 bits wherever the product is cut"),
        ("27, 88)", ("27 -> 28", "27 -> 26"), "a product that is not 0 is past 8 bits after either shift"),
        ("88)", ("88 -> 89", "88 -> 87"), "nothing is left of a product of 86 bits after either shift"),
        ("31)\n", ("31 -> 32",), "nothing is left of 31 bits and a sign after a shift by 32 either"),
        ("0, np.maximum(shift", ("0 -> 1", "0 -> -1"), "a product with 0 stays 0 whatever the shift"),
        ("30, 31)", ("30 -> 29",), "a sum that is not 0 is past 8 bits after either shift"),
        ("product >= 0", ("GtE -> Gt",), "0 is rounded to 0 with either nudge"),
        ("0, 1 << 30", ("0 -> 1", "0 -> -1"), "0 and -1 are rounded to 0 with either nudge"),
        ("nudged >= 0", ("GtE -> Gt",), "a nudged product is never next to 0"),
        ("0, nudged", ("0 -> 1", "0 -> -1"), "a nudged product is never next to 0"),
        ("high < 0)", ("Lt -> LtE",), "0 has no remainder"),
        ("0))\n", ("0 -> 1",), "0 has no remainder"),
    ),
    "binary32": (
        ("lost > 0", ("Gt -> GtE",), "where nothing is lost, it is not asked which way"),
        ("total > 0", ("Gt -> GtE",), "a sum of 0 has lost nothing"),
    ),
    "certificate": (("32  # what", ("32 -> 33", "32 -> 31"), "no channel takes part in another's answer"),),
    "elementwise": (
        ("256, dtype", ("256 -> 257",), "no code asks for the value after the last"),
        ("codes.dtype == np.int8 else codes", ("Eq -> NotEq",), "a negative index counts from the end, as a byte does"),
        ("total >= 0", ("GtE -> Gt",), "0 is rounded to 0 from either side"),
        ("0, rounded", ("0 -> 1", "0 -> -1"), "0 and -1 are far from a half"),
    ),
    "float_sum": (("done + step <= count", ("LtE -> Lt",), "a whole block at the end is the first addend either way"),),
    "interpolation": (("0)\n", ("0 -> 1", "0 -> -1"), "the only place is 0, whatever the step"),),
    "matrix": (("1,\n", ("1 -> 2", "1 -> 0"), "any number of groups that is left out is one up to 100"),),
    "multipliers": (("least < np.int64(1)", ("Lt -> LtE",), "the first M inside is odd, or S is 0 and M at most 256"),),
    "normalization": (("1).astype(np.int64)", ("1 -> 2",), "numpy finds the length for any negative number"),),
    "requantize": (
        ("2.0**30", ("2.0 -> 3.0",), "either bound is past 8 bits"),
        ("30)", ("30 -> 31", "30 -> 29"), "either bound is past 8 bits"),
        ("1, width)", ("1 -> 2",), "numpy finds the length for any negative number"),
    ),
    "saturation": (
        ("1), weights.reshape", ("1 -> 2",), "numpy finds the length for any negative number"),
        ("1))\n", ("1 -> 2",), "numpy finds the length for any negative number"),
    ),
    "separation": (
        ("60\n", ("60 -> 61", "60 -> 59"), "no height comes near either"),
        ("sign * run > 0", ("Gt -> GtE",), "as codes rise, two points of one accumulator leave a gap"),
        ("0)\n", ("0 -> -1",), "as codes rise, two points of one accumulator leave a gap"),
        ("1 if rising", ("1 -> 2",), "twice the numerator and the denominator are the same fraction"),
        ("1\n", ("1 -> 2",), "twice the numerator and the denominator are the same fraction"),
    ),
    "thresholds": (
        ("0]\n", ("0 -> -1",), "there is one row"),
        ("2], reach.low", ("2 -> 3",), "a third of the way from clamp to clamp is between them too"),
        ("1, guess", ("1 -> 2",), _START),
        ("left > guess", ("Gt -> GtE",), _START),
        ("2 * step", ("2 -> 3", "2 -> 1"), _START),
        ("1 << 32", ("1 -> 2", "1 -> 0"), _START),
        ("32)\n", ("32 -> 33", "32 -> 31"), _START),
        ("0.5 - rule.zero_point", ("0.5 -> 1.5", "0.5 -> -0.5"), _START),
        ("1, middle)", ("1 -> 2", "1 -> 0"), _START),
        ("1.0 if rule.bias_factor", ("1.0 -> 2.0", "1.0 -> 0.0"), _START),
        ("np.ceil(value)", ("ceil -> floor",), _START),
    ),
}


@dataclass(frozen=True)
class Mutant:
    """Change number `number` of the changes that there are to the module; `source` begins at the changed place."""

    module: str
    number: int
    line: int
    change: str
    source: str

    @property
    def equivalent(self) -> bool:
        """Whether the list above says that nothing can tell it from the original."""
        return any(self.source.startswith(at) and self.change in to for at, to, _ in EQUIVALENT.get(self.module, ()))


def _sites(tree: ast.AST) -> Iterator[tuple[ast.AST, int, str]]:
    """Places that can be changed: the node, which comparison of it or what is added to it, and what would be done."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            for place, operator in enumerate(node.ops):
                if type(operator) in COMPARISONS:
                    yield node, place, f"{type(operator).__name__} -> {COMPARISONS[type(operator)].__name__}"
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            yield node, 1, f"{node.value} -> {node.value + 1}"
            yield node, -1, f"{node.value} -> {node.value - 1}"
        elif isinstance(node, ast.Attribute) and node.attr in ROUNDINGS:
            yield node, 0, f"{node.attr} -> {ROUNDINGS[node.attr]}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "fma":
            yield node, 0, "fma -> product and sum, each rounded"


def mutants(module: str) -> list[Mutant]:
    """All of one module."""
    text = (PACKAGE / f"{module}.py").read_text()
    lines = text.splitlines(keepends=True)
    found = []
    for number, (node, _, change) in enumerate(_sites(ast.parse(text))):
        line, column = getattr(node, "lineno", 0), getattr(node, "col_offset", 0)
        found.append(Mutant(module, number, line, change, lines[line - 1][column:]))
    return found


def mutated(mutant: Mutant) -> ast.Module:
    """The module's tree with the change made."""
    tree = ast.parse((PACKAGE / f"{mutant.module}.py").read_text())
    node, place, _ = list(_sites(tree))[mutant.number]
    if isinstance(node, ast.Compare):
        node.ops[place] = COMPARISONS[type(node.ops[place])]()
    elif isinstance(node, ast.Constant):
        node.value = node.value + place  # type: ignore[operator]
    elif isinstance(node, ast.Attribute):
        node.attr = ROUNDINGS[node.attr]
    elif isinstance(node, ast.Call):
        node.func = ast.Name("__unfused", ast.Load())
    return ast.fix_missing_locations(tree)


def _unfused(a: Any, b: Any, c: Any) -> Any:
    return np.asarray(np.float32(1) * np.asarray(a, np.float32) * np.asarray(b, np.float32) + np.asarray(c, np.float32))


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Puts the mutant in the place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.name = f"accelsim.arithmetic.{mutant.module}"

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self.name else None

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__unfused"] = _unfused
        exec(compile(mutated(self.mutant), self.mutant.module, "exec"), module.__dict__)


def _passes(mutant: Mutant | None, files: list[str], seconds: int | None = None) -> tuple[bool, float]:
    """Whether the tests of the files pass, in a process of their own, and the processor's seconds that they took."""
    child = os.fork()
    if child:
        _, status, usage = os.wait4(child, 0)
        return os.waitstatus_to_exitcode(status) == 0, usage.ru_utime + usage.ru_stime
    code = 1
    try:
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        if mutant is not None:
            sys.meta_path.insert(0, _Finder(mutant))
        if seconds is not None:
            # A mutant that runs on for ever, or fills the memory, is noticed too.
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # to load them takes longer than most tests
        options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not full"]
        code = int(pytest.main([*options, *files]))
    finally:
        os._exit(code)


def _files(module: str) -> list[str]:
    return [str(HERE.parent / f"{name}.py" if "/" in name else HERE / f"test_{name}.py") for name in TESTS[module]]


def survivors(chosen: list[Mutant], directory: str, *, report: bool = False) -> list[Mutant]:
    """Those that no test notices. PyTorch's answers are kept in `directory`."""
    os.environ[KEPT] = directory
    try:
        alive, seconds = [], {}
        for module in sorted({mutant.module for mutant in chosen}):
            for _ in range(2):  # the second time PyTorch's answers are there
                passes, taken = _passes(None, _files(module))
                assert passes, f"the tests of {module} fail without a mutation"
            seconds[module] = 5 + int(PATIENCE * taken)
        for place, mutant in enumerate(chosen):
            lives, _ = _passes(mutant, _files(mutant.module), seconds[mutant.module])
            alive += [mutant] * lives
            if report:
                fate = "SURVIVES" if lives else "killed"
                print(f"{place + 1}/{len(chosen)} {mutant.module}.py:{mutant.line} {mutant.change}: {fate}", flush=True)
        return alive
    finally:
        del os.environ[KEPT]


def sample(share: float, seed: int, modules: list[str]) -> list[Mutant]:
    """A share of the mutants of the modules that are none of the equivalent ones, the same for the same seed."""
    every = [mutant for module in modules for mutant in mutants(module) if not mutant.equivalent]
    count = max(1, round(len(every) * share))
    places = np.random.default_rng(seed).choice(len(every), count, replace=False)
    return [every[place] for place in sorted(places)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(TESTS), metavar="MODULE")
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    chosen = sample(options.share, options.seed, options.modules)
    with tempfile.TemporaryDirectory() as directory:
        alive = survivors(chosen, directory, report=True)
    print(f"{len(chosen) - len(alive)} of {len(chosen)} mutants killed; survivors:")
    for mutant in alive:
        print(f"  {mutant.module}.py:{mutant.line} {mutant.change}")


if __name__ == "__main__":
    main()
