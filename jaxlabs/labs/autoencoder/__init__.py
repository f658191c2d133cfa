"""Autoencoders and variational autoencoders of handwritten digits."""
