"""Tests of jaxlabs/report/images.py: image grids and their figures."""

import dataclasses

import numpy as np
import pytest

from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.report import images, style
from jaxlabs.report.damaged_files import DamagedFiles
from jaxlabs.report.figures import build_figures
from jaxlabs.report.page import write_report


def image_arrays(figure):
    """The arrays of the images in a figure's panels."""
    return [axes.get_images()[0].get_array() for axes in figure.axes if axes.get_images()]


def labels(axes):
    return [label.get_text() for label in axes.get_yticklabels()]


def test_tile_is_row_major_with_white_gaps_and_padding():
    pixels = np.arange(1, 4)[:, None, None] / 10 * np.ones((3, 2, 1))
    expected = [[0.1, 1, 0.2], [0.1, 1, 0.2], [1, 1, 1], [0.3, 1, 1], [0.3, 1, 1]]
    np.testing.assert_allclose(images.tile(pixels), expected)
    np.testing.assert_allclose(images.tile(pixels[..., None]), expected)
    assert images.tile(pixels, columns=3).shape == (2, 5)


def test_tile_keeps_colors_and_clips_values():
    pixels = np.full((1, 1, 1, 3), [-1, 0.5, 7])
    np.testing.assert_array_equal(images.tile(pixels), [[[0, 0.5, 1]]])


def test_number_of_samples_shown_is_limited():
    with style.mpl_style():
        many = images.samples(np.linspace(0, 1, 120)[:, None, None] * np.ones((120, 2, 2)))
        few = images.samples(np.zeros((3, 2, 2)))
    assert "first 100 of 120" in many.caption
    assert "All 3 samples" in few.caption
    (sheet,) = image_arrays(many.figure)
    assert sheet.shape == (29, 29)
    assert sheet[0, 3] == pytest.approx(1 / 119)


def test_filters_are_normalized_one_by_one_and_zero_is_mid_gray():
    filters = np.array([[[0, 4.0], [-2, 0]], [[0, 0.001], [0, -0.002]], np.zeros((2, 2))])
    with style.mpl_style():
        item = images.filters({"filters": filters})
    (sheet,) = image_arrays(item.figure)
    np.testing.assert_allclose(sheet[:2, :2], [[0.5, 1], [0.25, 0.5]])
    np.testing.assert_allclose(sheet[:2, 3:], [[0.5, 0.75], [0.5, 0]])
    np.testing.assert_allclose(sheet[3:, :2], 0.5)


def test_reconstructions_are_below_their_inputs():
    inputs = np.linspace(0, 0.5, 13)[:, None, None] * np.ones((13, 2, 2))
    arrays = {"outputs": inputs + 0.25, "inputs": inputs, "linear_outputs": inputs + 0.5}
    with style.mpl_style():
        item = images.reconstructions(arrays)
    # Ten per row; an incomplete second row is omitted.
    (sheet,) = image_arrays(item.figure)
    assert labels(item.figure.axes[0]) == ["inputs", "outputs", "linear outputs"]
    np.testing.assert_allclose(sheet[0, ::3], inputs[:10, 0, 0])
    np.testing.assert_allclose(sheet[3, ::3], inputs[:10, 0, 0] + 0.25)
    np.testing.assert_allclose(sheet[6, ::3], inputs[:10, 0, 0] + 0.5)


def test_samples_of_many_steps_are_subsampled_evenly():
    by_step = {step: np.full((3, 2, 2), step / 4000) for step in range(4000, -1, -100)}
    with style.mpl_style():
        item = images.samples_during_training(by_step)
    named = labels(item.figure.axes[0])
    assert (len(named), named[0], named[-1]) == (images.MAX_STEPS, "step 0", "step 4,000")
    (sheet,) = image_arrays(item.figure)
    np.testing.assert_array_equal(sheet[::3, 0], np.sort(sheet[::3, 0]))


def test_spectra_are_relative_to_their_middle():
    frequency = np.arange(1, 65)
    arrays = {"frequency": frequency, "amplitude_before": 50 / frequency}
    arrays |= {"amplitude_after": np.full(64, 0.3)}
    arrays |= {f"image_{when}": np.eye(4) for when in ("before", "after")}
    with style.mpl_style():
        item = images.whitening(arrays)
        style.png(item.figure)
    guide, before, after = (line.get_ydata() for line in item.figure.axes[-1].lines)
    np.testing.assert_allclose(before, guide)
    np.testing.assert_allclose(after, 1)
    assert guide[7] == 1


def test_image_samples_are_plotted_in_the_samples_section(fresh_run):
    pixels = np.random.default_rng(0).random((4, 5, 5, 1))
    for step in (100, 20):
        fresh_run.write_sample(f"step-{step:06d}", {"images": pixels})
    fresh_run.write_sample("final", {"images": pixels})
    fresh_run.write_arrays("filters", filters=pixels)
    lab = dataclasses.replace(LAB, plots={"filters": images.filters})
    page = write_report(fresh_run, lab).read_text()
    assert {path.name for path in fresh_run.figures.iterdir()} == {
        "final_samples.png",
        "samples_during_training.png",
        "filters.png",
    }
    section = page.split('id="samples"')[1].split("</section>")[0]
    assert section.index("Samples of the trained model") < section.index("Samples during training")
    assert "Filters" not in section
    assert page.count("Samples of the trained model") == 1


def test_other_samples_are_not_plotted(fresh_run):
    fresh_run.write_sample("final", {"latents": np.zeros((2, 3))})
    fresh_run.write_sample("step-000001", "text")
    with style.mpl_style():
        assert build_figures(fresh_run, DamagedFiles(), {}, ()) == []
