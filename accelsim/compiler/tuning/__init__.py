"""Pass `time`: a small program is compiled again with other decisions, and what the machine runs fastest is kept."""
