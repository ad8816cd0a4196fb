"""The errors a user meets. Each message says what is wrong, where, and what to do about it."""

from .escaping import printable, shortened

_LONGEST = 4000


class AccelsimError(Exception):
    """Base of every error that this package raises on purpose.

    A message may quote what stands in a file; it is made fit for a terminal, and cut where it is endless.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(shortened(message, _LONGEST), lines=True))


class ConfigurationError(AccelsimError):
    """A configuration file or value is wrong."""


class ModelError(AccelsimError):
    """A model cannot be turned into a network of integers: an operator, an engine or a shape is not supported."""


class FormatError(AccelsimError):
    """A saved file is damaged, or not of the expected kind or version."""


class InputError(AccelsimError):
    """An input tensor does not fit the network or the program."""


class CompileError(AccelsimError):
    """A network cannot be compiled for a configuration."""


class AssemblyError(AccelsimError):
    """A line of assembly text, or a field of an instruction, is wrong."""


class MachineError(AccelsimError):
    """A program did something that the machine does not allow: out of bounds, never written, deadlock, overflow."""


class SweepError(AccelsimError):
    """A sweep's parameters or its store are wrong."""


class InternalError(AccelsimError):
    """Something that always holds inside this package does not: its own fault, whatever it was given."""


class WriteError(AccelsimError):
    """A file cannot be written, or a picture not drawn."""
