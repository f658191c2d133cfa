"""The engine: it knows no lab by name."""
