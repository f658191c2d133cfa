"""Synthetic languages with known optimal metrics."""
