"""The command line: one thin file a sub-command, imported when it is called; the work is done on the floors below."""

from .application import COMMANDS, application, main

__all__ = ["COMMANDS", "application", "main"]
