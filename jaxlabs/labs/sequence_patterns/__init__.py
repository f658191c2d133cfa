"""Sequence models on next-word prediction, sentiment, tagging and translation."""
