"""Denoising diffusion (DDPM) with a U-Net on images of digits."""
