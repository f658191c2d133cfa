"""A Transformer encoder that classifies sentences by speaker."""

from jaxlabs.labs.speech_classifier.lab import LAB
from jaxlabs.runner import cli

if __name__ == "__main__":
    cli.main(LAB)
