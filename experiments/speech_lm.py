"""A word-level Transformer language model of speeches, with full or local attention."""

from jaxlabs.labs.speech_lm.lab import LAB
from jaxlabs.runner import cli

if __name__ == "__main__":
    cli.main(LAB)
