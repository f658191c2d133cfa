"""PyTorch twins for tests and the benchmark; torch is imported lazily."""
