"""The command line: one thin file a sub-command; the work is done on the floors below."""

# Importing a sub-command's module adds it to the application; the order is that of `accelsim --help`.
from . import run, extract, compile, assemble, disassemble, explain, certify, compare, verify, sweep  # noqa: F401, I001
from .application import application, main

__all__ = ["application", "main"]
