"""Runs every lab and collects the results in one table."""

from jaxlabs import labs
from jaxlabs.runner import cli, reproduce

if __name__ == "__main__":
    cli.main(reproduce.suite(labs.Labs(), labs.load, labs.load_stored))
