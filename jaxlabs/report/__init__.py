"""Figures and one HTML page per run, made from the run folder alone."""

from jaxlabs import load_matplotlib

load_matplotlib.load()  # before any module here imports it
