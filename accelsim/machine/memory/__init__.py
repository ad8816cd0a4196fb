"""The simulated memories: their bytes, and which places of them an instruction touches."""
