"""Figures and one HTML page per run, made from the run folder alone."""
