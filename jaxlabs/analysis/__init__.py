"""Evaluations of trained models and small studies, written as arrays into the run folder."""
