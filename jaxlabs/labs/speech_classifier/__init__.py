"""A Transformer encoder that classifies sentences by speaker."""
