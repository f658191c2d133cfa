"""jaxlabs: the lab bench of deep learning in JAX."""

__version__ = "0.1.0"
