"""A decoder-only Transformer (GPT) as a character language model."""
