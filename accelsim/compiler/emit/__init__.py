"""Pass `emit`: operations become instructions, as their plans say."""
