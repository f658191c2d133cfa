"""Worked problems of deep learning, each computed by this project and in closed form."""

from jaxlabs.labs.worked_problems.lab import STUDY
from jaxlabs.runner import cli

if __name__ == "__main__":
    cli.main(STUDY)
