"""The MAC array: how long an instruction takes, and its sums."""
