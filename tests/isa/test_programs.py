"""A program that does not hold together is refused when it is read, by line, instruction or name, with a remedy."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

import accelsim
from accelsim.arithmetic.affine import Affine
from accelsim.arithmetic.requantize import Step
from accelsim.errors import AssemblyError, FormatError
from accelsim.isa import Add, Halt, Part, Pool, Port, Probe, Program, Reduction, Segment, Units, decode
from accelsim.isa.places import runs, shared, visited_twice

PROGRAMS = sorted((Path(__file__).parents[2] / "programs").glob("*.asm"))
BYTE = Affine(0.5, 3, "uint8")


def port(**changes: Any) -> Port:
    return Port(
        **{"name": "x", "address": 0, "shape": (2, 2), "stored": (2, 2), "axes": (0, 1), "affine": BYTE} | changes
    )


def program(**changes: Any) -> Program:
    parts: dict[str, Any] = {"name": "p", "accelerator": None, "instructions": (Halt(),), "layers": ("l",)}
    parts |= {"layer_of": (0,), "data": (), "inputs": (), "outputs": ()}
    return Program(**parts | changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"affine": Affine(0.0, 3, "uint8")}, "scale=0.0; a scale is a finite number above 0"),
        ({"affine": Affine(-0.5, 3, "uint8")}, "scale=-0.5"),
        ({"affine": Affine(float("nan"), 3, "uint8")}, "scale=nan"),
        ({"affine": Affine(float("inf"), 3, "uint8")}, "scale=inf"),
        ({"affine": Affine(1e-60, 3, "uint8")}, "in binary32 too"),
        ({"affine": Affine(0.5, 256, "uint8")}, r"zero_point=256 is no uint8 code \(0 to 255\)"),
        ({"affine": Affine(0.5, 128, "int8")}, r"zero_point=128 is no int8 code \(-128 to 127\)"),
        ({"affine": Affine(0.5, True, "uint8")}, "zero_point=True"),
        ({"affine": Affine(0.5, 3, "int32")}, "dtype='int32' scale=0.5 zero_point=3; codes are uint8 or int8"),
        ({"address": -1}, "address=-1"),
        ({"address": 1 << 40}, "DRAM ends at 0xffffffffff"),
        ({"address": (1 << 40) - 3}, "ends at 0x10000000001"),
        ({"shape": (0, 4), "stored": (0, 4)}, "every size is at least 1"),
        ({"shape": (-2, -2)}, r"shape=\(-2, -2\)"),
        ({"shape": (True, 4)}, "shape="),
        # 2^80 elements are 0 in 64 bits.
        ({"shape": (1 << 39, 1 << 39), "stored": (1 << 39, 1 << 39)}, "DRAM at"),
        ({"axes": (0, 0)}, "axes must be a permutation"),
        ({"pitches": (2,)}, "one for each axis"),
        ({"pitches": (-2, 1)}, "pitches="),
        ({"name": ""}, "is no name"),
    ],
)
def test_a_port_is_a_tensor_that_can_be(changes: dict[str, Any], says: str) -> None:
    port()
    with pytest.raises(AssemblyError, match=says):
        port(**changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layer_of": (-1,)}, "instruction 0 is of layer -1; there are 1"),
        ({"layer_of": (1,)}, "instruction 0 is of layer 1"),
        ({"layer_of": ()}, "1 instructions but 0 layer marks"),
        ({"layers": ("l", "l")}, "two layers have one name"),
        ({"inputs": (port(), port(address=64))}, "two inputs have one name"),
        ({"inputs": (port(pitches=(1, 1)),)}, "two of its elements lie in byte 0x1"),
        ({"outputs": (port(pitches=(1, 0)),)}, "two of its elements lie in byte"),
        ({"inputs": (port(),), "data": (Segment(3, b"x"),)}, "overlaps"),
        ({"outputs": (port(),), "code": 0}, "overlaps"),
        ({"code": -2}, "code at -2"),
        ({"code": 1 << 40}, "DRAM's addresses"),
        ({"probes": (Probe(port(), 1),)}, "value x is seen after instruction 1; there are 1"),
        ({"probes": (Probe(port(), -1),)}, "after instruction -1"),
        ({"probes": (Probe(port(), 0), Probe(port(shape=(4,), stored=(4,), axes=(0,)), 0))}, "two values are called x"),
    ],
)
def test_a_program_holds_together(changes: dict[str, Any], says: str) -> None:
    program()
    with pytest.raises(AssemblyError, match=says):
        program(**changes)


def test_inputs_in_different_memories_lie_apart() -> None:
    from accelsim.isa import Memory

    program(inputs=(port(), port(name="y", memory=Memory.ACTIVATION)))


@pytest.mark.parametrize(("address", "content"), [(-1, b"x"), (1 << 40, b"x"), ((1 << 40) - 1, b"xy"), (True, b"x")])
def test_data_lie_in_dram(address: int, content: bytes) -> None:
    with pytest.raises(AssemblyError, match=r"\.data: [12] bytes at"):
        Segment(address, content)


def test_parts_of_a_value_are_numbers() -> None:
    with pytest.raises(AssemblyError, match="is not of integers"):
        Probe(port(), 0, Part(0, 1.5))  # type: ignore[arg-type]


CLAMPS = {"a": 0, "b": 0, "out": 8, "length": 1, "scale_a": 1.0, "scale_b": 1.0, "multiplier": 1.0, "zero_point": 0}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"minimum": 10, "maximum": 9}, "codes rise from minimum to maximum"),
        ({"minimum": -1, "maximum": 200}, r"within 0\.\.255 or within -128\.\.127"),
        ({"minimum": -129, "maximum": 0}, "minimum=-129"),
        ({"minimum": 0, "maximum": 9, "steps": Step.FUSED_ZERO_POINT}, "it takes multiplier"),
        (
            {"minimum": 0, "maximum": 9, "steps": Step.MULTIPLIER | Step.FUSED_ZERO_POINT | Step.ZERO_POINT_FIRST},
            "two forms",
        ),
        ({"minimum": 0, "maximum": 9, "steps": Step.BIAS | Step.FUSED_BIAS}, "bias and fused_bias are two forms"),
    ],
)
def test_steps_and_clamps_that_would_leave_something_out_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(AssemblyError, match=says):
        Add(**{"steps": Step.MULTIPLIER} | CLAMPS | changes)


def test_a_sum_is_not_divided_by_nothing() -> None:
    fields: dict[str, Any] = {
        "reduction": Reduction.SUM,
        "activation": 0,
        "channels": 1,
        "out": 9,
        "steps": Step.DIVISOR,
    }
    Pool(**fields, factor=4.0)
    with pytest.raises(AssemblyError, match="factor=0 is the divisor"):
        Pool(**fields, factor=0.0)


def test_halt_waits_for_nothing() -> None:
    for tokens in ({"wait": Units.LOAD}, {"signal": Units.MAC}):
        with pytest.raises(AssemblyError, match="halt: has no unit"):
            Halt(**tokens)


def test_bits_that_no_field_has_are_zero() -> None:
    word = bytearray(Halt().encode())
    assert decode(bytes(word)) == Halt()
    word[-1] = 128
    with pytest.raises(AssemblyError, match="halt ends at bit 23"):
        decode(bytes(word))


LINES = {
    ".define 5 7": "takes a name",
    ".define a 1\n.define a 1": "'a' is 1 already",
    ".program a\n.program b": r"\.program: is given twice",
    ".code 0\n.code 64": r"\.code: is given twice",
    ".code -1": "is no address",
    ".program a b": "takes one name, not 2 words",
    '.program "a': "is not closed",
    ".layer": "takes one name",
    ".data 0 u8": "takes an address, a type",
    ".data 0 u8 256": r"256 does not fit u8 \(0 to 255\)",
    ".data 0 i8 -129": "-129 does not fit i8",
    ".data 0 i32 0x80000000": "does not fit i32",
    ".data 0 f32 1e39": "is no finite binary32 number",
    ".data 0 f32 nan": "is no finite binary32 number",
    ".data 0 hex abc": "cannot be read",
    ".data 0 u8 " + "9" * 5000: "is neither an integer",
    ".data -1 u8 1": "DRAM's addresses",
    ".input x address=0 address=1 shape=1 dtype=uint8 scale=1 zero_point=0": "'address' is given twice",
    ".input x address=0 shape=0 dtype=uint8 scale=1 zero_point=0": "at least 1",
    ".output y address=0 shape=1 dtype=uint8 scale=0 zero_point=0": "scale=0.0",
    ".output y address=0 shape=1 dtype=uint8 scale=1 zero_point=999": "zero_point=999",
    ".output y address=0 shape=1 dtype=uint8 scale=1 zero_point=0 memory=disk": "memory='disk'; there are dram",
    ".input": "the name of the tensor is missing",
    ".value": "must stand after the instruction",
    "halt wait=load": "halt: has no unit",
    "load memory=activation dram=-1 address=0 length=1": "dram=-1 does not fit",
    "load memory=activation dram=0 address=0 length=0": "length=0; it must be at least 1",
    '.accelerator {"name": "a", "name": "b"}': "key 'name' is given twice",
    ".accelerator " + "[" * 5000: "nested too deeply",
}


@pytest.mark.parametrize("text", LINES, ids=lambda text: text[:40])
def test_a_wrong_line_is_named(text: str) -> None:
    with pytest.raises(AssemblyError, match=LINES[text]) as caught:
        accelsim.assemble(f"{text}\nhalt\n")
    assert str(caught.value).startswith(f"line {len(text.splitlines())}: ")
    assert len(str(caught.value)) < 600


HOSTILE = ["a;b", "a b", "a\nhalt", "a\u2028halt", "\x1b[31m", '"', "\\", "\ud800", "é", "x=y", "'", "a\x00", " "]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_name_ends_no_line_and_starts_no_comment(name: str, tmp_path: Path) -> None:
    written = program(
        name=name,
        layers=(name,),
        inputs=(port(name=name),),
        outputs=(port(name=name, address=8),),
        probes=(Probe(port(name=name, address=8), 0, Part(0, 4)),),
    )
    text = written.assembly()
    assert text.isascii()
    assert len(text.splitlines()) == 7  # program, code, input, output, layer, halt, value
    assert accelsim.assemble(text) == written
    written.save(tmp_path / "p")
    assert Program.load(tmp_path / "p") == written


def test_layers_without_instructions_keep_their_places() -> None:
    written = program(layers=("a", "b", "c"), layer_of=(1,))
    assert accelsim.assemble(written.assembly()) == written


def test_a_scalar_comes_back_from_text() -> None:
    written = program(outputs=(port(shape=(), stored=(), axes=()),))
    assert accelsim.assemble(written.assembly()) == written


def test_every_bit_of_a_saved_program_counts(tmp_path: Path) -> None:
    path = tmp_path / "program"
    accelsim.assemble(PROGRAMS[-1].read_text(encoding="utf-8")).save(path)
    whole = path.read_bytes()
    places = Random(0).sample(range(8 * len(whole)), 1500)
    for place in places:
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(FormatError, match=r"program: |program; "):
            Program.load(path)


@pytest.mark.full
@pytest.mark.parametrize("part", range(16))
def test_each_bit_of_a_saved_program_counts(part: int, tmp_path: Path) -> None:
    path = tmp_path / "program"
    accelsim.assemble(PROGRAMS[-1].read_text(encoding="utf-8")).save(path)
    whole = path.read_bytes()
    for place in range(part, 8 * len(whole), 16):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        with pytest.raises(FormatError):
            Program.load(path)


def test_an_older_format_is_refused_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "program"
    program().save(path)
    path.write_bytes(path.read_bytes().replace(b'\\"version\\": 3', b'\\"version\\": 2'))
    with pytest.raises(FormatError, match="version 2 of the format; this release reads 3: write it again"):
        Program.load(path)


def _places(start: int, sizes: list[int], pitches: list[int]) -> list[int]:
    turns = itertools.product(*map(range, sizes))
    return [start + sum(i * pitch for i, pitch in zip(turn, pitches, strict=True)) for turn in turns]


@pytest.mark.parametrize("seed", range(300))
def test_places_visited_twice_and_shared_are_those_of_the_plain_loops(seed: int) -> None:
    random = Random(seed)

    def loops() -> tuple[int, list[int], list[int]]:
        axes = random.randint(1, 4)
        pitches = [random.choice([0, 1, 1, 2, 3, 5, 7, 12, 20]) for _ in range(axes)]
        return random.randint(0, 30), [random.choice([1, 1, 2, 3, 4, 5]) for _ in range(axes)], pitches

    for _ in range(10):
        one, two = loops(), loops()
        counts, others = Counter(_places(*one)), set(_places(*two))
        place = visited_twice(*one)
        assert (place is None) == (max(counts.values()) == 1)
        assert place is None or counts[place] > 1
        assert shared(runs(*one), runs(*two)) == min(counts.keys() & others, default=None)


def test_a_file_with_a_number_as_a_text_is_refused(tmp_path: Path) -> None:
    from accelsim.container import sealed

    path = tmp_path / "program"
    program(outputs=(port(),)).save(path)
    content = path.read_bytes()
    path.write_bytes(sealed(content.replace(b'\\"address\\": 0', b'\\"address\\":"0"', 1)))
    with pytest.raises(FormatError):
        Program.load(path)
