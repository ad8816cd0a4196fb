"""The lists of steps as C, an executor beside numpy's that is fast enough for all 2**32 inputs.

Each operation is a C function of its own here, written from its description; the reference is the C library's binary64
function. Arguments of a program are the first word, the number of words, the stride between them, the floor and the
largest |x| of the bound. It prints the largest error in ulp, the word where it is, the largest error within the floor,
and the number of results whose class (NaN, infinite) is wrong.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np

from accelsim.arithmetic.functions.bounds import Bound
from accelsim.arithmetic.functions.operations import Algorithm, Operand

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")

#: What each operation returns where it is not binary32: an integer or a row.
_INTEGERS = frozenset(
    """integer_column exponent to_integer segment lookup word low_bits field low_field shift join bit_length integer_add
    integer_subtract integer_multiply integer_divide integer_minimum integer_maximum integer_shift_right
    integer_shift_left""".split()  # noqa: SIM905
)

OPERATIONS = r"""
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
typedef int64_t integer;
static inline uint32_t bits_of(float a) { uint32_t w; memcpy(&w, &a, 4); return w; }
static inline float from_bits(uint32_t w) { float a; memcpy(&a, &w, 4); return a; }
static inline float op_add(float a, float b) { return a + b; }
static inline float op_subtract(float a, float b) { return a - b; }
static inline float op_multiply(float a, float b) { return a * b; }
static inline float op_fma(float a, float b, float c) { return fmaf(a, b, c); }
static inline float op_divide(float a, float b) { return a / b; }
static inline float op_square_root(float a) { return sqrtf(a); }
static inline float op_minimum(float a, float b) { return a != a ? a : b != b ? b : a < b ? a : b; }
static inline float op_maximum(float a, float b) { return a != a ? a : b != b ? b : a > b ? a : b; }
static inline float op_clamp(float a, float low, float high) { return op_minimum(op_maximum(a, low), high); }
static inline float op_keep_nan(float a, float b) { return a != a ? a : b; }
static inline float op_by_class(float a, float b, float negative, float zero, float infinite) {
  return a != a ? a : a < 0 ? negative : a == 0 ? zero : a == INFINITY ? infinite : b;
}
static inline integer op_exponent(float a) {
  uint32_t m = bits_of(a) & 0x7fffffff;
  if (m == 0) return -1023;
  if (m >= 0x7f800000) return 1024;
  if (m >= 0x00800000) return (integer)(m >> 23) - 127;
  integer e = -150;
  while (m) { m >>= 1; e++; }
  return e;
}
static inline float op_scale(float a, integer n) { return ldexpf(a, n > 600 ? 600 : n < -600 ? -600 : (int)n); }
static inline float op_significand(float a) { return op_scale(a, -op_exponent(a)); }
static inline float op_to_float(integer n) { return (float)n; }
static inline integer op_to_integer(float a) {
  if (a != a) return 0;
  if (a >= 2147483648.0f) return 2147483647;
  if (a <= -2147483648.0f) return -2147483647;
  return (integer)rint((double)a);
}
static inline integer op_segment(float a, integer shift, integer base, integer count) {
  integer n = (integer)(bits_of(a) >> shift) - base;
  return n < 0 ? 0 : n >= count ? count - 1 : n;
}
static inline float op_negate(float a) { return -a; }
static inline float op_magnitude(float a) { return fabsf(a); }
static inline float op_negate_if(float a, integer n) { return n & 1 ? -a : a; }
static inline integer op_low_field(integer n, int count) {
  return (integer)((uint64_t)n << (64 - count)) >> (64 - count);
}
static inline float op_copy_sign(float a, float b) { return copysignf(a, b); }
static inline integer op_word(float a) { return bits_of(a); }
static inline float op_number(integer n) { return from_bits((uint32_t)n); }
static inline integer op_low_bits(float a, int count) {
  return (int32_t)(bits_of(a) << (32 - count)) >> (32 - count);
}
static inline integer op_field(integer n, int low, int count) { return (n >> low) & ((1LL << count) - 1); }
static inline integer op_shift(integer n, int places) {
  return places >= 0 ? n >> places : (integer)((uint64_t)n << -places);
}
static inline integer op_join(integer m, integer n, int count) { return m << count | n; }
static inline integer op_integer_add(integer m, integer n) { return (integer)((uint64_t)m + (uint64_t)n); }
static inline integer op_integer_subtract(integer m, integer n) { return m - n; }
static inline integer op_integer_multiply(integer m, integer n) { return m * n; }
static inline integer op_integer_divide(integer m, integer n) {
  if (n < 1) n = 1;
  integer q = m / n;
  return q - (m % n < 0);
}
static inline integer op_integer_minimum(integer m, integer n) { return m < n ? m : n; }
static inline integer op_integer_maximum(integer m, integer n) { return m > n ? m : n; }
static inline integer op_integer_shift_right(integer m, integer n) { return m >> (n < 0 ? 0 : n > 63 ? 63 : n); }
static inline integer op_integer_shift_left(integer m, integer n) { return m << n; }
static inline integer op_bit_length(integer n) { integer c = 0; while (n) { n >>= 1; c++; } return c; }
"""

#: The true functions in binary64.
REFERENCES = {
    "exp": "exp(x)",
    "exp2": "exp2(x)",
    "log": "log(x)",
    "tanh": "tanh(x)",
    "sigmoid": "1 / (1 + exp(-x))",
    "erf": "erf(x)",
    "gelu": "x == -INFINITY ? NAN : x > 0 ? x * (1 - 0.5 * erfc(x / sqrt(2))) : 0.5 * x * erfc(-x / sqrt(2))",
    "gelu_tanh": "x / (1 + exp(-2 * sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)))",
    "silu": "x / (1 + exp(-x))",
    "softplus": "x != x ? x : fmax(x, 0) + log1p(exp(-fabs(x)))",
    "hardswish": "x * fmin(fmax(x + 3, 0), 6) / 6",
    "hardsigmoid": "x != x ? x : fmin(fmax(x + 3, 0), 6) / 6",
    "sqrt": "sqrt(x)",
    "rsqrt": "1 / sqrt(x)",
    "reciprocal": "1 / x",
    "sin": "sin(x)",
    "cos": "cos(x)",
}

_MAIN = r"""
#define BLOCK 4096
static double unit_of(double t) {
  int e;
  if (t < 0x1p-126) return 0x1p-149;
  frexp(t, &e);
  return ldexp(1.0, e - 24);
}
int main(int argc, char **argv) {
  uint64_t first = strtoull(argv[1], 0, 10), count = strtoull(argv[2], 0, 10), stride = strtoull(argv[3], 0, 10);
  double floor_ = strtod(argv[4], 0), largest = strtod(argv[5], 0), worst = 0, floored = 0;
  uint32_t where = 0;
  uint64_t wrong = 0;
  static float x[BLOCK], y[BLOCK];
  for (uint64_t start = 0; start < count; start += BLOCK) {
    int n = count - start < BLOCK ? (int)(count - start) : BLOCK;
    for (int i = 0; i < n; i++) x[i] = from_bits((uint32_t)(first + (start + i) * stride));
    for (int i = 0; i < n; i++) y[i] = function(x[i]);
    for (int i = 0; i < n; i++) {
      double t = reference((double)x[i]), r = y[i];
      if (isnan(t) || isnan(r)) { wrong += !(isnan(t) && isnan(r)); continue; }
      if (isinf(x[i]) || x[i] == 0) { wrong += !(r == t || fabs(r - t) < 1e-6); if (isinf(r) || isinf(t)) continue; }
      if (fabs((double)x[i]) >= largest) { wrong += !(fabs(r) >= fabs(t)); continue; }
      t = t > 0x1p128 ? 0x1p128 : t < -0x1p128 ? -0x1p128 : t;
      r = r > 0x1p128 ? 0x1p128 : r < -0x1p128 ? -0x1p128 : r;
      double error = fabs(r - t), size = fmax(fabs(t), magnitude((double)x[i]));
      if (error <= floor_) { if (error > floored) floored = error; continue; }
      error /= unit_of(size);
      if (error > worst) { worst = error; where = bits_of(x[i]); }
    }
  }
  printf("%.17g %u %.17g %llu\n", worst, where, floored, (unsigned long long)wrong);
  return 0;
}
"""


def _literal(operand: Operand, names: dict[str, str]) -> str:
    if isinstance(operand, str):
        return names[operand]
    if isinstance(operand, np.float32):
        return f"from_bits({int(operand.view(np.uint32))}u)"
    return str(operand)


def function(algorithm: Algorithm, name: str = "function") -> str:
    """The algorithm as a C function of a float."""
    lines = []
    for table in algorithm.tables:
        rows = ",\n".join("{" + ",".join(f"{w}u" for w in row) + "}" for row in table.words)
        lines.append(f"static const uint32_t {name}_{table.name}[{table.rows}][{len(table.columns)}] = {{{rows}}};")
    lines.append(f"static float {name}(float x) {{")
    names, tables = {"x": "x"}, {}
    integers = set()
    for step in algorithm.steps:
        result = f"v_{step.result}"
        operands = step.operands
        integer = step.operation in _INTEGERS
        if step.operation == "lookup":
            tables[step.result] = operands[0]
            text = names[str(operands[1])]
        elif step.operation in ("column", "integer_column"):
            word = f"{name}_{tables[str(operands[0])]}[{names[str(operands[0])]}][{operands[1]}]"
            text = word if integer else f"from_bits({word})"
        elif step.operation == "select_less":
            a, b, yes, no = (_literal(o, names) for o in operands)
            text = f"{a} < {b} ? {yes} : {no}"
            integer = any(o in integers for o in operands[2:])
        else:
            text = f"op_{step.operation}({', '.join(_literal(o, names) for o in operands)})"
        names[step.result] = result
        if integer:
            integers.add(step.result)
        lines.append(f"  {'integer' if integer else 'float'} {result} = {text};")
    lines.append(f"  return {names[algorithm.steps[-1].result]};\n}}")
    return "\n".join(lines)


def program(name: str, algorithm: Algorithm, half_of_x: bool, folder: Path) -> Path:
    """Compiles the comparison of a function with its reference; the path of the program."""
    magnitude = "fabs(x) / 2" if half_of_x else "0"
    return _compiled(
        f"{OPERATIONS}\n{function(algorithm)}\n"
        f"static double reference(double x) {{ return {REFERENCES[name]}; }}\n"
        f"static double magnitude(double x) {{ return {magnitude}; }}\n{_MAIN}",
        folder / name,
    )


def evaluator(algorithms: dict[str, Algorithm], folder: Path) -> Path:
    """Compiles a program that reads binary32 numbers and writes the results of the function of its first argument."""
    functions = [function(algorithm, f"f_{name}") for name, algorithm in algorithms.items()]
    choices = "".join(f' if (!strcmp(argv[1], "{name}")) f = f_{name};' for name in algorithms)
    loop = "float x; while (fread(&x, 4, 1, stdin)) { x = f(x); fwrite(&x, 4, 1, stdout); }"
    main = f"int main(int argc, char **argv) {{ float (*f)(float) = 0;{choices} {loop} }}"
    return _compiled("\n".join([OPERATIONS, *functions, main]), folder / "evaluator")


def _compiled(text: str, binary: Path) -> Path:
    assert COMPILER is not None
    source = binary.with_suffix(".c")
    source.write_text(text)
    flags = ["-O2", "-ffp-contract=off", "-o", str(binary), str(source), "-lm"]
    native = subprocess.run([COMPILER, "-march=native", *flags], capture_output=True, check=False)
    if native.returncode:
        subprocess.run([COMPILER, *flags], check=True)
    return binary


def compared(binary: Path, first: int, count: int, stride: int, bound: Bound) -> tuple[float, int, float, int]:
    """Largest error in ulp, its word, the largest error below the floor, results of a wrong class."""
    arguments = [str(binary), str(first), str(count), str(stride), repr(bound.floor), repr(bound.largest)]
    words = subprocess.run(arguments, capture_output=True, check=True, text=True).stdout.split()
    return float(words[0]), int(words[1]), float(words[2]), int(words[3])
