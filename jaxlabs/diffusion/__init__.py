"""Diffusion: noise schedules, the forward process and samplers."""
