"""Pictures and one page per run, drawn from the run folder alone."""

from jaxlabs import load_matplotlib

load_matplotlib.load()  # before any module here imports it
