"""Losses: per-example values in nats; the caller reduces."""
