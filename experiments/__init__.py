"""One command per lab."""
