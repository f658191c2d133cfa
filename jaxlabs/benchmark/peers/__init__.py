"""PyTorch and NumPy reference implementations for tests and the benchmark; lazy imports."""
