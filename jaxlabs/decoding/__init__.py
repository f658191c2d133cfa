"""Sampling from sequence models in one compiled call."""
