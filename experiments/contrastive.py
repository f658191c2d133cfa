"""Contrastive image-text pretraining with the CLIP or the SigLIP loss, on digits with captions."""

from jaxlabs.labs.contrastive.lab import LAB
from jaxlabs.runner import cli

if __name__ == "__main__":
    cli.main(LAB)
