"""Passes `schedule`, `reuse` and `synchronize`: the order of the instructions, and the tokens between the units."""
