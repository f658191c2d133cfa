"""Measurements on trained models, written as arrays into the run folder."""
