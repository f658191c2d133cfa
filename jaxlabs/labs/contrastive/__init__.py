"""Contrastive image-text pretraining with the CLIP or the SigLIP loss, on digits with captions."""
