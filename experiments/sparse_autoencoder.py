"""A sparse autoencoder of natural image patches, whose hidden units learn edge filters."""

from jaxlabs.labs.sparse_autoencoder.lab import LAB
from jaxlabs.runner import cli

if __name__ == "__main__":
    cli.main(LAB)
