"""Integers in, integers out: affine maps, requantisation, tables. Knows numpy only."""
