"""Sequence models on next-word prediction, sentiment, tagging and translation."""

from jaxlabs.labs.sequence_patterns.lab import LAB
from jaxlabs.runner import cli

if __name__ == "__main__":
    cli.main(LAB)
