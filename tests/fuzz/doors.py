"""The doors through which files come in, and what may come of them: the right thing, or an error in plain words.

A new door is one entry of `DOORS`.
"""

from __future__ import annotations

import json
import resource
import signal
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import yaml

import accelsim
from accelsim.container import sealed
from accelsim.errors import AccelsimError, MachineError
from accelsim.machine.simulation import forget

from . import mutations
from .samples import networks, programs

ROOT = Path(__file__).parents[2]
REGRESSIONS = Path(__file__).parent / "regressions"

#: Seconds that one input may take, and bytes that this process may have had in memory at most.
SECONDS = 20
MEMORY = 700 << 20


@dataclass(frozen=True)
class Door:
    """`samples` are good files; `mutations` change one; `enter` opens the file at a path and does what users do."""

    name: str
    samples: Callable[[], Sequence[bytes]]
    mutations: Sequence[mutations.Mutation]
    enter: Callable[[Path], None]


class WrongOutcomeError(AssertionError):
    """A file had an outcome that none may have."""


def check(door: Door, content: bytes, place: Path) -> str:
    """What came of it: "accepted", or the words of the error. Raises WrongOutcomeError for any other outcome."""
    path = place / f"{door.name}.input"
    path.write_bytes(content)
    before = _peak()
    try:
        with _alarm():
            door.enter(path)
    except AccelsimError as error:
        message = str(error)
        _check_words(message, path, inside=isinstance(error, MachineError))
        return message
    except Exception as error:
        raise WrongOutcomeError(f"{type(error).__name__}: {str(error)[:300]}") from error
    finally:
        peak = _peak()
        if peak > max(before, MEMORY + _started):
            raise WrongOutcomeError(f"{peak >> 20} MiB of memory")
    return "accepted"


def _peak() -> int:
    """Bytes of memory that this process has had at most; other tests may have had more than a file is allowed."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


_started = _peak()


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise TimeoutError(f"{SECONDS} s were not enough")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _check_words(message: str, path: Path, *, inside: bool) -> None:
    """Short, in a few lines, about the file (or, of a program that was read, about what the machine did)."""
    if not message.strip() or len(message) > 2000 or message.count("\n") > 14:
        raise WrongOutcomeError(
            f"an error of {len(message)} characters in {message.count(chr(10))} lines: {message[:200]!r}"
        )
    if not inside and path.name not in message:
        raise WrongOutcomeError(f"an error that does not name the file: {message[:300]!r}")
    if "Traceback" in message or "internal" in message:
        raise WrongOutcomeError(f"an error meant for others: {message[:300]!r}")


# Saved networks and programs: bytes, and the tree in the header or the arrays, with the checksum made good.


def header_changed(random: Random, content: bytes) -> bytes:
    """The JSON in the header changed, the checksum right for it."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    tree = json.loads(header["__metadata__"]["accelsim"])
    seal = tree.pop("sha256")
    changed = mutations.tree_changed(random, tree)
    if isinstance(changed, dict):
        changed = {"sha256": seal, **changed}
    header["__metadata__"]["accelsim"] = mutations.plain_json(changed)
    return _sealed(json.dumps(header).encode(), content[8 + length :])


def arrays_changed(random: Random, content: bytes) -> bytes:
    """Bytes of the arrays, or their types, shapes and places changed, the checksum right for it."""
    (length,) = struct.unpack("<Q", content[:8])
    raw, data = content[8 : 8 + length], content[8 + length :]
    if random.random() < 0.5:
        return _sealed(raw, _same_length(mutations.bytes_changed(random, data), len(data)))
    header = json.loads(raw)
    metadata = header.pop("__metadata__")
    changed = mutations.tree_changed(random, header)
    for item in changed.values() if isinstance(changed, dict) else ():
        if isinstance(item, dict) and random.random() < 0.1:
            item["dtype"] = random.choice(("BF16", "F8_E4M3", "I64", "U64", "BOOL", "F16", "I16", "U8", "I8"))
    changed = {"__metadata__": metadata, **changed} if isinstance(changed, dict) else changed
    return _sealed(mutations.plain_json(changed).encode("utf-8", "surrogatepass"), data)


def _same_length(data: bytes, length: int) -> bytes:
    return data[:length].ljust(length, b"\0")


def _sealed(header: bytes, data: bytes) -> bytes:
    content = struct.pack("<Q", len(header)) + header + data
    try:
        return sealed(content)
    except AssertionError:  # no place for a checksum is left
        return content


SAVED = (*[mutations.bytes_changed] * 3, *[header_changed] * 4, arrays_changed)


def enter_network(path: Path) -> None:
    """Load, and where that is accepted run it and compile it, which may be refused in the network's own words."""
    network = accelsim.Network.load(path)
    machine = accelsim.Accelerator.from_yaml(ROOT / "configs" / "teaching_4x4.yaml")
    x = tuple(
        np.zeros(network.values[name].shape, np.dtype(network.values[name].affine.dtype)) for name in network.inputs
    )
    for work in (lambda: network.run(x), lambda: accelsim.compile(network, machine, effort=0)):
        try:
            work()
        except AccelsimError as error:
            _check_words(str(error), path, inside=True)


def enter_program(path: Path) -> None:
    """Load it, run it in time, and with data."""
    _run(accelsim.Program.load(path))


def enter_assembly(path: Path) -> None:
    """As the command line does: the text's errors come with the file's name."""
    from accelsim.cli.programs import assemble_file
    from accelsim.cli.status import CallError

    try:
        program = assemble_file(path)
    except CallError as error:
        raise AccelsimError(str(error)) from None
    again = accelsim.assemble(program.assembly())
    if again != program:
        raise WrongOutcomeError("what was assembled comes back another from its own text")
    _run(program)


def _run(program: accelsim.Program) -> None:
    machine = accelsim.Accelerator.from_yaml(ROOT / "configs" / "teaching_4x4.yaml")
    if program.accelerator is not None:
        machine = program.accelerator
    try:
        timed = accelsim.simulate(program, accelerator=machine)
        x = tuple(np.zeros(port.shape, np.dtype(port.affine.dtype)) for port in program.inputs)
        if accelsim.simulate(program, x, accelerator=machine).cycles != timed.cycles:
            raise WrongOutcomeError("other cycles with data than without")
    finally:
        forget()


def enter_configuration(path: Path) -> None:
    """Read it; what is accepted comes back from its own plain data."""
    machine = accelsim.Accelerator.from_yaml(path)
    if accelsim.Accelerator.from_dict(machine.to_dict()) != machine:
        raise WrongOutcomeError("what was read comes back another from its own data")


def configuration_changed(random: Random, content: bytes) -> bytes:
    """The tree changed, written as JSON, which is YAML."""
    tree = mutations.tree_changed(random, _tree(content))
    return mutations.plain_json(tree).replace("NaN", ".nan").replace("Infinity", ".inf").encode()


@lru_cache(maxsize=64)
def _tree(content: bytes) -> Any:
    return yaml.safe_load(content)


def yaml_added(random: Random, content: bytes) -> bytes:
    """What only YAML has: tags, anchors, merges, dates, documents, other forms of numbers."""
    pieces = (
        b"!!int ",
        b"!!python/name:os.system ",
        b"&a ",
        b"*a ",
        b"<<: *a\n",
        b"2020-13-45",
        b"0o17",
        b"017",
        b"1:30",
    )
    pieces += (
        b"---\n",
        b"...\n",
        b"? ",
        b"- ",
        b"| \n",
        b"%TAG ! x\n",
        b".inf",
        b"[" * 40,
        b"{a: " * 40,
        b"yes",
        b"~",
        b"# ",
    )
    at = random.choice([place for place, byte in enumerate(content) if byte in b"\n :,{"] or [0])
    return content[: at + 1] + random.choice(pieces) + content[at + 1 :]


@cache
def configurations() -> Sequence[bytes]:
    """The shipped ones."""
    return tuple(path.read_bytes() for path in sorted((ROOT / "configs").glob("*.yaml")))


@cache
def assembly() -> Sequence[bytes]:
    """The programs by hand without their comments, and compiled ones."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "programs").glob("*.asm"))]
    bare = ["\n".join(line.split(";")[0].rstrip() for line in text.split("\n")) for text in texts]
    bare = ["\n".join(line for line in text.split("\n") if line) for text in bare]
    return tuple(text.encode() for text in (*bare, *(program.assembly() for program in programs())))


DOORS = {
    door.name: door
    for door in (
        Door("network", networks, SAVED, enter_network),
        Door("program", lambda: tuple(_saved(program) for program in programs()), SAVED, enter_program),
        Door("assembly", assembly, mutations.text_mutations(), enter_assembly),
        Door(
            "configuration",
            configurations,
            (*mutations.text_mutations(), configuration_changed, configuration_changed, yaml_added),
            enter_configuration,
        ),
    )
}


@cache
def _saved(program: accelsim.Program) -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "program"
        program.save(path)
        return path.read_bytes()


def mutated(door: Door, seed: int) -> bytes:
    """The file that a seed stands for."""
    random = Random(f"{door.name} {seed}")
    content = random.choice(door.samples())
    for _ in range(random.choice((1, 1, 2))):
        mutation = random.choice(door.mutations)
        try:
            content = mutation(random, content)
        except (ValueError, KeyError, struct.error, AttributeError, TypeError, yaml.YAMLError, RecursionError):
            # The file is no longer one that this change has words for.
            content = mutations.bytes_changed(random, content)
    return content
