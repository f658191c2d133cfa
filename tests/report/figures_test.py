"""Tests of jaxlabs/report/figures.py: one figure for each available file."""

import matplotlib
import numpy as np

from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.report import figures as report_figures
from jaxlabs.report import style
from jaxlabs.report.damaged_files import DamagedFiles

ALL = ["loss", "optimization", "attention_grid", "attention_close_up", "positions", "lr_range"]


def build(folder):
    return report_figures.build_figures(folder, DamagedFiles(), LAB.plots, LAB.published)


def names(folder):
    with style.mpl_style():
        return [item.name for item in build(folder)]


def test_all_files_are_plotted_in_reading_order(run):
    assert names(run) == ALL


def test_missing_files_are_not_plotted(run):
    run.arrays("attention_maps").unlink()
    run.metrics.unlink()
    assert names(run) == ["positions", "lr_range"]


def test_empty_run_has_no_figures(fresh_run):
    assert names(fresh_run) == []


def test_unknown_array_files_are_ignored(run):
    np.savez(run.arrays("latents"), anything=np.zeros(3))
    assert names(run) == ALL


def test_every_figure_has_title_caption_and_alt_text(run):
    with style.mpl_style():
        figures = build(run)
    for item in figures:
        assert item.caption.endswith(".")
        assert item.title
        assert item.alt


def test_figures_have_the_default_width_and_leave_rcparams_unchanged(run):
    before = dict(matplotlib.rcParams)
    with style.mpl_style():
        figures = {item.name: item.figure for item in build(run)}
    widths = {name: figure.get_size_inches()[0] for name, figure in figures.items()}
    # 4 heads with 48 labels each need more width.
    assert widths.pop("attention_grid") > style.WIDTH
    assert set(widths.values()) == {style.WIDTH}
    assert dict(matplotlib.rcParams) == before


def test_comparison_of_a_running_run_has_no_value_of_ours(fresh_run):
    (row,) = report_figures.comparison(fresh_run, LAB.published)
    assert (row["published"], row["ours"]) == (1.88, None)
