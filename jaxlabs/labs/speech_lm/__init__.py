"""A word-level Transformer language model of speeches, with full or local attention."""
