"""A decoder-only Transformer (GPT) as a character language model."""

from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.runner import cli

if __name__ == "__main__":
    cli.main(LAB)
