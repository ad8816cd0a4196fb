"""Changes of files, each a function of a random generator and the file: of its bytes, its tree, its lines."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

#: Numbers at which fields, types and memories end, and what is no number to some readers and one to others.
NUMBERS: tuple[Any, ...] = (
    *(0, 1, -1, 2, 3, 7, 15, 16, 63, 127, 128, 255, 256, 4095, 4096, 32767, 65535, 65536, 2**24 - 1, 2**24, 2**31 - 1),
    *(2**31, 2**32 - 1, 2**32, 2**40 - 1, 2**40, 2**53, 2**63 - 1, 2**63, 2**64, 2**70, 10**40, -128, -129, -(2**31)),
    *(
        -(2**63),
        0.0,
        -0.0,
        0.5,
        1.0,
        1e-45,
        1e-46,
        3.5e38,
        1e308,
        5e-324,
        -1.0,
        float("inf"),
        float("nan"),
        True,
        False,
    ),
)
TEXTS = (
    "",
    "x",
    "../../x",
    "/tmp/x",
    "a;b",
    "a\nb",
    "\x00",
    "\x1b[31m",
    "\ud800",
    "\u2028",
    "é" * 300,
    "1",
    "uint8",
    "-1",
)
OTHERS: tuple[Any, ...] = (None, [], {}, [[]], {"": None}, [1], {"a": 1})


def interesting(random: Random) -> Any:
    """A number mostly, else a text or something else."""
    kind = random.randrange(10)
    if kind < 6:
        return random.choice(NUMBERS)
    return random.choice(TEXTS) if kind < 8 else copy.deepcopy(random.choice(OTHERS))


def bytes_changed(random: Random, content: bytes) -> bytes:
    """Bits flipped, a part cut, doubled, or put elsewhere."""
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 1, 2, 5))):
        if not data:
            break
        at = random.randrange(len(data))
        length = min(random.choice((1, 2, 8, 64, 1000)), len(data) - at)
        match random.randrange(7):
            case 0 | 1:
                data[at] ^= 1 << random.randrange(8)
            case 2:
                data[at] = random.choice((0, 1, 9, 10, 13, 32, 34, 45, 48, 58, 91, 123, 127, 128, 255))
            case 3:
                del data[at:]
            case 4:
                del data[at : at + length]
            case 5:
                data[at:at] = data[at : at + length]
            case 6:
                other = random.randrange(len(data))
                data[other:other] = data[at : at + length]
    return bytes(data)


def tree_changed(random: Random, tree: Any) -> Any:
    """Plain data with a few values replaced, taken away, doubled, or put in one another's place."""
    tree = copy.deepcopy(tree)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places = list(_places(tree))
        if not places:
            return interesting(random)
        holder, key = random.choice(places)
        match random.randrange(9):
            case 0 | 1 | 2 | 3:
                holder[key] = _near(random, holder[key])
            case 4:
                del holder[key]
            case 5:
                other, where = random.choice(places)
                holder[key] = copy.deepcopy(other[where])
            case 6 if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case 6:
                holder[random.choice(("surprise", "name", "shape", "array"))] = interesting(random)
            case 7 if isinstance(holder, list):
                random.shuffle(holder)
            case 7:
                holder[key] = [holder[key]]
            case 8:
                for _ in range(random.choice((3, 20, 200))):
                    holder[key] = [holder[key]]
    return tree


def _near(random: Random, value: Any) -> Any:
    """Another value, often of the same kind."""
    if isinstance(value, bool) or not isinstance(value, int | float) or random.random() < 0.4:
        return interesting(random)
    if isinstance(value, float):
        return value * random.choice((-1.0, 0.0, 2.0, 1e30, 1e-30))
    return value + random.choice((-1, 1, 2, -value, value, 1000)) if random.random() < 0.6 else random.choice(NUMBERS)


def _places(tree: Any, depth: int = 0) -> Any:
    if depth > 40:
        return
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from _places(value, depth + 1)


def lines_changed(random: Random, text: str) -> str:
    """Lines taken away, doubled, swapped, and numbers in them replaced by others at a limit."""
    lines = text.split("\n")
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.randrange(len(lines))
        match random.randrange(12):
            case 0:
                del lines[at]
                lines = lines or [""]
            case 1:
                lines.insert(random.randrange(len(lines) + 1), lines[at])
            case 2:
                other = random.randrange(len(lines))
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                lines[at] = lines[at].replace("=", random.choice(("", "==", " = ", "=-")), 1)
            case 4:
                words = lines[at].split(" ")
                word = random.choice(words)
                lines[at] = f"{lines[at]} {word}" if random.random() < 0.5 else lines[at].replace(word, "", 1)
            case 5:
                words = [word for line in lines for word in line.split() if "=" in word]
                lines[at] = f"{lines[at]} {random.choice(words or ['x=1'])}"
            case _:
                lines[at] = _number_changed(random, lines[at])
    return "\n".join(lines)


_NUMBER = re.compile(r"(?<![A-Za-z_])-?(0x[0-9a-f]+|[0-9]+(\.[0-9]+)?)")


def _number_changed(random: Random, line: str) -> str:
    found = list(_NUMBER.finditer(line))
    if not found:
        return line
    match = random.choice(found)
    if random.random() < 0.35 and re.fullmatch(r"-?[0-9]{1,9}", match[0]):
        number: Any = int(match[0]) + random.choice((-1, 1, 2, 16, int(match[0])))
    else:
        number = random.choice((*NUMBERS, "nan", "inf", "1e999", "-", "0x", "--1"))
    return line[: match.start()] + str(number) + line[match.end() :]


#: A door's own ways to change its files: each takes a random generator and a file.
Mutation = Callable[[Random, bytes], bytes]


def text_mutations() -> Sequence[Mutation]:
    """For a file of text."""

    def lines(random: Random, content: bytes) -> bytes:
        text = lines_changed(random, content.decode("utf-8", "surrogateescape"))
        return text.encode("utf-8", "surrogatepass" if "\ud800" in text else "surrogateescape")

    return lines, lines, lines, lines, bytes_changed


def plain_json(tree: Any) -> str:
    """JSON of whatever a change has made, NaN and infinities too."""
    return json.dumps(tree)
