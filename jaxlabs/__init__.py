"""jaxlabs: the lab bench of deep learning in JAX."""
