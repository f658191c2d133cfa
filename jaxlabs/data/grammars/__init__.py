"""Made-up languages whose best possible scores are known."""
