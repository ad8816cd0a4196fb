"""Random cases: a statement after the other is written and run by PyTorch; what PyTorch refuses is left out."""

from __future__ import annotations

import math
import re
import warnings
from random import Random
from typing import Any

import torch
from models import ENGINES, NAMES, PT2E, Case, Input, NoneEmpty, Tensor, engine_set
from statements import EXPORTED, GROUPS, WEIGHTS

#: Tensors do not grow beyond so many elements.
_LARGEST = 1 << 14


def random_case(seed: int) -> Case:
    """The case of that seed: one to six statements, and what ends open float tensors."""
    random = Random(seed)
    engine = random.choice([*ENGINES, *ENGINES, PT2E])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad(), engine_set(engine), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            writer = _Writer(random, engine)
            for _ in range(random.choice([1, 1, 2, 2, 3, 3, 4, 5, 6])):
                writer.add()
            return writer.case()
    finally:
        torch.set_num_threads(threads)


def _number(value: float) -> str:
    return repr(float(value))


class _Cannot(Exception):  # noqa: N818
    """No tensor fits a template."""


class _Writer:
    """A model while it is written. `live` holds the tensors of its run, by name."""

    def __init__(self, random: Random, engine: str) -> None:
        self.random, self.engine = random, engine
        self.inputs = self._inputs()
        self.constants: list[str] = []
        self.statements: list[str] = []
        self.live: dict[str, Any] = dict(NAMES)
        self.names = [f"x{position}" for position in range(len(self.inputs))]
        for position, given in enumerate(self.inputs):
            self.live[f"x{position}"] = given.value(4 * 1009 * position)
        self._filled: dict[str, str] = {}
        for position, given in enumerate(self.inputs):
            # By the map over whose codes and ties the input is spread, or by another.
            own = f"{given.scale!r}, {given.zero_point}" if random.random() < 0.6 else "{s}, {z}"
            if engine == PT2E:
                self._run(self._fill(f"on_grid(x{position}, {own}, torch.uint8)"))
            elif given.dtype == "float" and random.random() < 0.9:
                self._run(self._fill(f"torch.quantize_per_tensor(x{position}, {own}, torch.quint8)"))

    def case(self) -> Case:
        """The case, with outputs chosen among what is quantised, which most often is what was made last."""
        random, names = self.random, self._outputs()
        last = [name for name in self.names if name[0] != "x"][-1:]
        if last and last[0] not in names and (not names or random.random() < 0.8):
            self._filled = {"f": last[0]}
            group = "grid" if self.engine == PT2E else "quantize"
            self._run(self._fill(random.choice(GROUPS[group][:3])))
            names = self._outputs()
        names = names or self.names
        outputs = [names[-1]]
        while random.random() < 0.3:
            outputs.append(random.choice(names))
        if random.random() < 0.02:
            outputs.append(random.choice(self.names))
        same = len(set(self.inputs)) == 1 < len(self.inputs) and random.random() < 0.3
        return Case(
            self.engine,
            self.inputs,
            tuple(self.constants),
            tuple(self.statements),
            tuple(outputs),
            same,
            not same and random.random() < 0.03,
        )

    def _outputs(self) -> list[str]:
        if self.engine == PT2E:
            return [
                name for name in self.names if any(line.startswith(f"{name} = on_grid") for line in self.statements)
            ]
        return [name for name in self.names if self._tensor(name).is_quantized]

    def add(self) -> None:
        """One more statement that PyTorch runs."""
        for _ in range(20):
            weights = EXPORTED if self.engine == PT2E else WEIGHTS
            group = self.random.choices(list(weights), list(weights.values()))[0]
            constants = len(self.constants)
            self._filled = {}
            try:
                if self._run(self._fill(self.random.choice(GROUPS[group]))):
                    return
            except _Cannot:
                pass
            del self.constants[constants:]

    def _run(self, text: str) -> bool:
        """Run a statement, or an expression whose tensor gets a name. Whether PyTorch did."""
        name = f"a{len(self.names)}"
        line = text if re.search(r"[^=!<>]=[^=]", re.sub(r"\(.*\)", "", text)) else f"{name} = {text}"
        before = {other: _state(self._tensor(other)) for other in self.names}
        try:
            with NoneEmpty():
                exec(line, self.live)
        except Exception:  # PyTorch raises whatever it likes
            # What was written into already stays as it is: values have no say in what is written next.
            return False
        made = self.live.get(name)
        if isinstance(made, Tensor):
            if made.numel() > _LARGEST or made.numel() == 0:
                del self.live[name]
                return before == {other: _state(self._tensor(other)) for other in self.names} and False
            self.names.append(name)
        self.statements.append(line)
        return True

    def _tensor(self, name: str) -> Tensor:
        """A tensor by its name, or by the expression that stands for it."""
        return self.live[name] if name in self.live else eval(name, self.live)  # type: ignore[no-any-return]

    # The words of templates

    def _fill(self, template: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda found: self._word(found[1]), template)

    def _word(self, word: str) -> str:
        if word in ("n", "i", "index", "slice", "s", "z", "weights"):
            return str(getattr(self, f"_{word}")())
        if word not in self._filled:
            kind = word[0] if re.fullmatch(r"[ab]\d?", word) else word
            self._filled[word] = str(getattr(self, f"_{kind}")(*word[1:] if kind != word else ()))
            if kind == "a":
                self._filled["a"] = self._filled[word]
        return self._filled[word]

    def _given(self) -> Tensor:
        """The tensor that the statement is about."""
        name = self._filled.get("a") or self._filled.get("f")
        return self._tensor(name) if name else self._tensor(self.names[-1])

    def _choice(self, names: list[str]) -> str:
        if not names:
            raise _Cannot
        # What was made last is taken more often: so chains grow.
        return self.random.choice([names[-1], names[-1], *names])

    def _a(self, rank: str = "") -> str:
        tensors = {name: self._tensor(name) for name in self.names}
        return self._choice([n for n, t in tensors.items() if _usable(t) and (not rank or t.dim() == int(rank))])

    def _b(self) -> str:
        """Of the shape and type of {a}."""
        a = self._given()
        alike = [n for n in self.names if (self._tensor(n).shape, self._tensor(n).dtype) == (a.shape, a.dtype)]
        return self.random.choice(alike)

    def _f(self) -> str:
        names = [name for name in self.names if self._tensor(name).dtype == torch.float32]
        names = [name for name in names if name[0] != "x" or self.random.random() < 0.05]
        if names and (self.engine == PT2E or self.random.random() < 0.8):
            return self._choice(names)
        return f"{self._a()}.dequantize()"

    def _g(self) -> str:
        """Of the shape of {f}."""
        name = self._filled["f"]
        if name not in self.live:
            return name
        shape = self._tensor(name).shape
        alike = [n for n in self.names if self._tensor(n).shape == shape]
        chosen = self.random.choice(alike)
        return f"{chosen}.dequantize()" if self._tensor(chosen).is_quantized else chosen

    def _type(self) -> str:
        return self.random.choice(["torch.quint8", "torch.quint8", "torch.quint8", "torch.qint8"])

    def _t(self) -> str:
        return self.random.choice(["torch.uint8", "torch.uint8", "torch.int8"])

    def _s(self) -> str:
        return _number(_scale(self.random))

    def _z(self) -> int:
        # Good for quint8 and qint8 alike.
        return self.random.choice([0, 3, 7, 101, 127, self.random.randrange(128)])

    def _n(self) -> str:
        given = self._given()
        scale = given.q_scale() if _usable(given) else 1.0
        step = self.random.randint(-100, 100) * scale * self.random.choice([1, 0.5])
        value = self.random.choice([0.0, 1.0, -1.0, 0.5, 2.0, 6.0, -3.7, step, step, step, 1e9, -1e9])
        if self.random.random() < 0.01:
            return self.random.choice(["inf", "nan", "-inf"])
        return _number(value)

    def _low(self) -> str:
        low, high = sorted([float(self._n()), float(self._n())])
        self._filled["high"] = _number(high)
        return _number(low)

    def _slope(self) -> str:
        return self.random.choice(["0.25", "0.1", "0.01", "-0.5", "1.5", "0.0"])

    def _i(self) -> int:
        return self.random.randrange(3)

    def _k(self) -> int:
        return self.random.choice([1, 2, 3])

    def _pad(self) -> int:
        return int(self._filled["k"]) // 2

    def _d(self) -> int:
        rank = max(self._given().dim(), 1)
        return self.random.randrange(-rank, rank)

    _e = _d

    def _index(self) -> int:
        given = self._given()
        axis = int(self._filled.get("d", 0))
        return self.random.randrange(given.shape[axis]) if given.dim() else 0

    def _index0(self) -> int:
        given = self._given()
        return self.random.randrange(given.shape[0]) if given.dim() else 0

    def _slice(self) -> str:
        return self.random.choice(
            [":1", "1:", ":, :1", ":, 1:", "..., 1:", "..., :1", "::2", "..., ::2", "0", "..., 0"]
        )

    def _fslice(self) -> str:
        return self._filled.setdefault("fslice", self._slice())

    def _weights(self) -> str:
        """A number for each channel."""
        given = self._given()
        return f"constant({self.random.randrange(9)}, [{given.shape[1] if given.dim() > 1 else 1}])"

    def _variances(self) -> str:
        return f"{self._weights()}.abs()"

    def _perm(self) -> str:
        return ", ".join(map(str, self.random.sample(range(self._given().dim()), self._given().dim())))

    def _shape(self) -> str:
        size = self._given().numel()
        sides = [side for side in range(1, size + 1) if size % side == 0]
        first = self.random.choice(sides)
        second = self.random.choice([side for side in sides if (size // first) % side == 0])
        shape = self.random.choice([(size,), (first, size // first), (first, second, size // first // second)])
        if self.random.random() < 0.3:
            shape = (1, *shape)
        self._filled["stride"] = str(_strides(shape))
        return str(shape)

    def _bool(self) -> str:
        return str(torch.arange(self._given().numel()).reshape(self._given().shape).remainder(3).eq(0).tolist())

    # Constants

    def _packed(self, text: str) -> str:
        name = f"W{len(self.constants)}"
        line = f"{name} = {text}"
        try:
            exec(line, self.live)
        except RuntimeError as error:
            raise _Cannot from error
        self.constants.append(line)
        return name

    def _constant(self) -> str:
        shape = list(self._tensor(self._filled["f"]).shape) if self._filled.get("f") in self.live else [1]
        return self._packed(f"constant({self._i()}, {shape})")

    def _parameters(self, outputs: int, *, per_tensor: bool = False) -> str:
        """Scales and biases."""
        random, given = self.random, self._given()
        one = per_tensor or random.random() < 0.4
        scales = [2.0 ** random.randint(-9, 0) if random.random() < 0.5 else _scale(random) for _ in range(outputs)]
        biases = [self._bias(given.q_scale() * scales[0 if one else channel]) for channel in range(outputs)]
        bias = "None" if random.random() < 0.2 else f"[{', '.join(biases)}]"
        return f"{scales[0] if one else scales!r}, {bias}"

    def _bias(self, unit: float) -> str:
        """`unit`: what one step of the accumulator is worth."""
        random = self.random
        if random.random() < 0.03:
            return random.choice(["inf", "-inf", "nan", "1e30", "-1e30", "1e8", "-1e8", "2.2e8"])
        if random.random() < 0.06:
            return _number(unit * random.choice([-1, 1]) * 2.0 ** random.randint(24, 34))
        value = random.choice([0.0, random.gauss(0, 4), unit * random.randint(-500, 500) / 2])
        return _number(torch.tensor(value).item())

    def _linear(self) -> str:
        given = self._given()
        inputs, outputs = given.shape[-1] if given.dim() else 1, self.random.choice([1, 2, 3, 5, 8, 9])
        return self._packed(f"linear({self._i()}, {inputs}, {outputs}, {self._parameters(outputs)})")

    def _window(self, *, transposed: bool) -> str:
        random, given = self.random, self._given()
        rank, channels = given.dim() - 2, given.shape[1]
        groups = random.choice([1, 1, channels, math.gcd(channels, 2)])
        outputs = groups * random.choice([1, 1, 2, 3])
        kernel = [random.choice([1, 2, 3]) for _ in range(rank)]
        padding, dilation = random.choice([0, 0, 1]), random.choice([1, 1, 1, 2])
        rest = f"stride={random.choice([1, 1, 2])}, padding={padding}, groups={groups}"
        if not transposed:
            rest += f", dilation={dilation}"
        sides = zip(given.shape[2:], kernel, strict=True)
        if not all(side + 2 * padding > (size - 1) * dilation for side, size in sides):
            raise _Cannot  # PyTorch's kernels divide by zero
        parameters = self._parameters(outputs, per_tensor=transposed)
        name = "transposed" if transposed else "conv"
        return self._packed(f"{name}({self._i()}, {channels}, {outputs}, {kernel}, {parameters}, {rest})")

    def _conv(self) -> str:
        return self._window(transposed=False)

    def _transposed(self) -> str:
        return self._window(transposed=True)

    # Inputs

    def _inputs(self) -> tuple[Input, ...]:
        count = self.random.choice([1, 1, 1, 2])
        first = self._input()
        return tuple(
            first if position == 0 or self.random.random() < 0.5 else self._input() for position in range(count)
        )

    def _input(self) -> Input:
        random = self.random
        channels = random.choice([1, 2, 3, 4, 5, 8, 9, 16, 64])
        side = [random.randint(1, 6) for _ in range(2)]
        if channels > 9:
            side = [min(value, 3) for value in side]
        batch = random.choice([1, 1, 2])
        shape = random.choice(
            [
                *[(batch, channels, *side)] * 4,
                *[(random.randint(1, 4), random.choice([1, 2, 3, 4, 5, 8, 33, 64, 70]))] * 2,
                (batch, channels, side[0]),
                (random.choice([1, 3, 64, 130]),),
                (1, min(channels, 5), 2, *side),
            ]
        )
        if random.random() < 0.03:  # more than the vector loops take at once
            shape = random.choice([(1, 64, 12, 12), (1, 130, 9, 8), (9000,), (3, 2900)])
        dtype = "float" if self.engine == PT2E else random.choice(["quint8", "quint8", "quint8", "qint8", "float"])
        layout = random.choice(
            ["contiguous", "contiguous", "contiguous", "channels_last", "channels_last", "sliced", "transposed"]
        )
        if (layout == "channels_last" and len(shape) not in (3, 4, 5)) or (layout == "transposed" and len(shape) < 2):
            layout = "contiguous"
        zero_point = self.random.choice([0, 3, 127, 101, random.randrange(128)])
        if dtype != "qint8":
            zero_point = random.choice([zero_point, zero_point + 128, 255])
        elif random.random() < 0.5:
            zero_point = -zero_point - 1
        return Input(shape, dtype, _scale(random), zero_point, layout)


def _scale(random: Random) -> float:
    """Powers of two make ties; others do not."""
    if random.random() < 0.04:
        return random.choice([2.0**-30, 2.0**20, 1e-6, 3e5, 1e-10, 1e-30, 1e30, 2.0**-126])
    if random.random() < 0.5:
        return 2.0 ** random.randint(-6, 2)
    return round(10 ** random.uniform(-3, 1), random.choice([2, 4, 12])) or 0.1


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def _usable(tensor: Tensor) -> bool:
    """Whether a tensor is quantised, with one scale for all; `new_empty` makes some that have none."""
    try:
        return tensor.is_quantized and tensor.qscheme() == torch.per_tensor_affine
    except RuntimeError:
        return False


def _state(tensor: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.shape), tensor.stride()
