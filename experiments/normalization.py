"""A study of batch normalization: training speed, maximum learning rate and regularization."""

from jaxlabs.labs.normalization.lab import STUDY
from jaxlabs.runner import cli

if __name__ == "__main__":
    cli.main(STUDY)
