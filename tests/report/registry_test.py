"""All pictures of a run come from its folder, and only what is there is drawn."""

import matplotlib
import numpy as np

from jaxlabs.report import registry, style
from jaxlabs.report.damaged_files import DamagedFiles

ALL = ["loss", "optimization", "attention_grid", "attention_close_up", "positions", "lr_range"]


def names(folder):
    with style.mpl_style():
        return [picture.name for picture in registry.build_figures(folder, DamagedFiles())]


def test_everything_written_is_drawn_in_reading_order(run):
    assert names(run) == ALL


def test_what_is_missing_is_not_drawn(run):
    run.arrays("attention_maps").unlink()
    run.metrics.unlink()
    assert names(run) == ["positions", "lr_range"]


def test_run_without_anything_has_no_pictures(fresh_run):
    assert names(fresh_run) == []


def test_arrays_of_unknown_name_are_left_alone(run):
    np.savez(run.arrays("latents"), anything=np.zeros(3))
    assert names(run) == ALL


def test_every_picture_says_what_to_see(run):
    with style.mpl_style():
        pictures = registry.build_figures(run, DamagedFiles())
    for picture in pictures:
        assert picture.caption.endswith(".")
        assert picture.title
        assert picture.alt


def test_pictures_keep_the_width_of_the_house_and_leave_the_style_as_it_was(run):
    before = dict(matplotlib.rcParams)
    with style.mpl_style():
        pictures = {picture.name: picture.figure for picture in registry.build_figures(run, DamagedFiles())}
    widths = {name: figure.get_size_inches()[0] for name, figure in pictures.items()}
    # Of 4 heads and 48 labels each, which would be too small to read.
    assert widths.pop("attention_grid") > style.WIDTH
    assert set(widths.values()) == {style.WIDTH}
    assert dict(matplotlib.rcParams) == before


def test_running_run_is_set_against_the_published_figures_without_ours(fresh_run):
    (row,) = registry.compared(fresh_run)
    assert (row["published"], row["ours"]) == (1.88, None)
