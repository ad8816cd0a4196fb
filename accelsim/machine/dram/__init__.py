"""DRAM: the bus with its arbiter, and the model with banks."""
