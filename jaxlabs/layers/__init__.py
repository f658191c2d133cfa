"""Layers: pure functions and the linen modules around them."""
