"""Passes `lay out`, `place`, `fuse` and `tile`: where tensors live, and how each operation is cut."""
