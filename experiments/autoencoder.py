"""Autoencoders and variational autoencoders of handwritten digits."""

from jaxlabs.labs.autoencoder.lab import LAB
from jaxlabs.runner import cli

if __name__ == "__main__":
    cli.main(LAB)
