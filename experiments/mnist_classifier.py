"""A small convolutional classifier of digits, also the feature extractor of the FID of `ddpm`."""

from jaxlabs.labs.mnist_classifier.lab import LAB
from jaxlabs.runner import cli

if __name__ == "__main__":
    cli.main(LAB)
