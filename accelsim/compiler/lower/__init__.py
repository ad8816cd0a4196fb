"""Pass `lower`: nodes of the network become operations on stored tensors."""
