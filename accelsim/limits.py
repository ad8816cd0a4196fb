"""What a run may cost: one place for the limits that keep a small file from asking for a large machine."""

from __future__ import annotations

from dataclasses import dataclass, fields

from .errors import AccelsimError


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one compilation or one run. Each is named in the error of whatever meets it.

    `cycles`: of the simulated machine. `instructions`: of a program. `memory`: bytes that the host takes for simulated
    memories and working arrays. `operations`: elements that the host works on, a product counting as a sixteenth; about
    a thousand million take a second.

    A file may cost what its own size justifies: for each byte of weights and data that come with a network or a program
    there are 16 bytes of `memory`, 1,024 `operations` and a quarter of an instruction (of a compilation) more. So the
    defaults keep a file under 100 KB at 500 MB and some seconds, and let pass what is large itself. With half of
    `memory` a segmentation network of 512 x 512 pixels would not run, with twice as much a small file would take more
    than that; MobileNet v2 takes 153,000 instructions on an array of 4 x 4 cells, and is allowed 900,000.
    """

    cycles: int = 10**11
    instructions: int = 20_000
    memory: int = 1 << 28
    operations: int = 5 * 10**9

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise AccelsimError(f"limits: {field.name}={value!r}; a limit is an integer above 0")

    def memory_for(self, given: int) -> int:
        """Bytes allowed for a network or program that comes with `given` bytes of data."""
        return self.memory + 16 * given

    def instructions_for(self, given: int) -> int:
        """Instructions allowed for what is compiled of a network that comes with `given` bytes of data."""
        return self.instructions + given // 4

    def operations_for(self, given: int) -> int:
        """Operations allowed for a network or program that comes with `given` bytes of data."""
        return self.operations + 1024 * given


#: What holds where nobody says otherwise.
DEFAULT = Limits()


_OVER = "; the limit is "


def is_over(error: AccelsimError) -> bool:
    """Whether an error says that a limit was met: with a higher one the work may go on."""
    return _OVER in str(error)


def over(name: str, needed: int, allowed: int, what: str) -> str:
    """The words of an error where a limit is met: `what` needs more than is allowed."""
    unit = {"memory": " bytes"}.get(name, f" {name}")
    return (
        f"{what} takes {needed:,}{unit}{_OVER}{allowed:,}. If that is meant, raise it: "
        f"limits=Limits({name}={needed}) in Python, --limit {name}={needed} on the command line"
    )
