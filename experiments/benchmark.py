"""A benchmark of training steps and samplers, interleaved with the same work in PyTorch."""

from jaxlabs.benchmark.lab import STUDY
from jaxlabs.runner import cli

if __name__ == "__main__":
    cli.main(STUDY)
