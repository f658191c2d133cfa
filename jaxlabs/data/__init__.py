"""Data sets, and batches as pure functions of (data set, seed, step)."""
