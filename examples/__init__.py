"""Networks to try the simulator on."""
