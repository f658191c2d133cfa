"""Training: optimizers, steps, the loop, checkpoints and evaluation, independent of any lab."""
