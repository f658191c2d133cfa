"""Denoising diffusion (DDPM) with a U-Net on images of digits."""

from jaxlabs.labs.ddpm.lab import LAB
from jaxlabs.runner import cli

if __name__ == "__main__":
    cli.main(LAB)
