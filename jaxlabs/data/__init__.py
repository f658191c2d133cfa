"""Data sets as pure functions of (data set, seed, step)."""
