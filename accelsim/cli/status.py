"""Exit status: which errors say that the call is wrong, and which that the model or its outputs are."""

from __future__ import annotations

from accelsim.errors import AccelsimError, CompileError, MachineError, ModelError

OK = 0
WRONG_OUTPUTS = 1
WRONG_CALL = 2
INTERRUPTED = 130

#: The model cannot be run as it is; every other error is about how the program was called.
_MODEL_ERRORS = (ModelError, CompileError, MachineError)


class CallError(AccelsimError):
    """The command line names something that is not there, or options that do not go together."""


def status_of(error: AccelsimError) -> int:
    """The exit status that an error leads to."""
    return WRONG_OUTPUTS if isinstance(error, _MODEL_ERRORS) else WRONG_CALL
