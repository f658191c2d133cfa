import io

import numpy as np
import PIL.Image
import pytest

from jaxlabs.labs.ddpm import plots as diffusion
from jaxlabs.report import confusion, style


@pytest.fixture(autouse=True)
def mpl_style():
    with style.mpl_style():
        yield


def stages(times, count=3):
    pixels = np.random.default_rng(0).standard_normal((len(times), count, 8, 8, 1))
    return {"timesteps": np.array(times), "images": pixels}


@pytest.mark.parametrize("plot", [diffusion.forward_process, diffusion.trajectory])
def test_every_timestep_has_a_row(plot):
    item = plot(stages([999, 250, 0]))
    (axes,) = item.figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["t = 999", "t = 250", "t = 0"]
    assert axes.images[0].get_array().shape == (3 * 9 - 1, 3 * 9 - 1)


def test_animation_has_all_frames_and_holds_the_last():
    arrays = stages([9, 5, 0], count=30)
    item = diffusion.animation(arrays)
    image = PIL.Image.open(io.BytesIO(style.png(item.figure)))
    assert image.format == "PNG"
    assert image.n_frames == 3
    assert image.info["loop"] == 0
    times = []
    for frame in range(3):
        image.seek(frame)
        times.append(image.info["duration"])
    assert times == [diffusion.PER_FRAME] * 2 + [diffusion.HOLD]
    # The middle of the first sample's first pixel, as a gray value.
    gray = (np.clip(arrays["images"][2, 0, 0, 0, 0], -1, 1) + 1) * 127.5
    assert np.asarray(image)[1, 1] == pytest.approx(gray, abs=0.51)


def test_fid_by_steps_shows_each_sampler_and_the_training_images():
    arrays = {
        "sampler": np.array(["ddim", "ancestral", "ddim"]),
        "steps": np.array([1000, 20, 20]),
        "fid": np.array([4.0, 9.0, 5.0]),
        "count": np.array([2000, 10_000, 10_000]),
        "real_data_count": np.array([10_000, 2000]),
        "real_data_fid": np.array([1.0, 2.0]),
    }
    item = diffusion.fid_by_steps(arrays)
    (axes,) = item.figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["DDIM", "ancestral"]
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[20, 5], [1000, 4]])
    fids = [line.get_ydata()[0] for line in axes.lines[-2:]]
    assert fids == [1.0, 2.0]
    assert "Hollow markers: 2,000 samples" in item.caption
    assert "ddim 1000 steps 4;" in item.alt


def test_class_histogram_reports_the_most_frequent_class():
    counts = {"samples": np.array([1, 7, 2]), "real": np.array([5, 5, 10])}
    item = diffusion.class_histogram({"names": np.array(list("abc"))} | counts)
    assert "Most frequent: b (70.0%)." in item.caption
    heights = [bar.get_height() for bar in item.figure.axes[0].patches]
    np.testing.assert_allclose(heights, [10, 70, 20, 25, 25, 50])


def test_neighbors_reports_distances_of_samples_and_test_images():
    pixels = np.random.default_rng(0).random((2, 8, 8, 1))
    item = diffusion.neighbors(
        {
            "samples": pixels,
            "nearest": pixels,
            "distances": np.array([0.1, 0.2]),
            "real_distances": np.array([0.25]),
        }
    )
    assert "median 0.150, minimum 0.100" in item.caption
    assert "median for test images 0.250" in item.caption


def test_loss_by_timestep_includes_timestep_zero():
    values = np.array([0.5, 0.1, 0.01])
    arrays = {"timesteps": np.array([0, 10, 999]), "bits": values, "squared_error": values}
    item = diffusion.loss_by_timestep(arrays)
    for axes in item.figure.axes:
        np.testing.assert_array_equal(axes.lines[0].get_xdata(), [1, 11, 1000])


def test_misclassified_images_show_both_classes():
    arrays = {
        "images": np.zeros((2, 8, 8, 1)),
        "labels": np.array(["4", "7"]),
        "predicted": np.array(["9", "1"]),
        "errors": np.array(62),
        "count": np.array(10_000),
    }
    item = confusion.misclassified(arrays)
    assert [axes.get_title() for axes in item.figure.axes[:2]] == ["4 → 9", "7 → 1"]
    assert "62 of 10,000 test images are misclassified" in item.caption
    assert "The 2 most confident errors are shown" in item.caption
