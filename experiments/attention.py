"""A study of attention: a worked example, a mini encoder, depth, and the number of heads."""

from jaxlabs.labs.attention.lab import STUDY
from jaxlabs.runner import cli

if __name__ == "__main__":
    cli.main(STUDY)
