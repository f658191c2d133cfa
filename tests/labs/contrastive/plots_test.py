import numpy as np
import pytest

from jaxlabs.labs.contrastive import plots as contrastive
from jaxlabs.report import style

RANDOM = np.random.default_rng(0)


def render(plot, arrays):
    with style.mpl_style():
        plotted = plot(arrays)
        for item in plotted if isinstance(plotted, list) else [plotted]:
            assert style.png(item.figure).startswith(b"\x89PNG")
    return plotted


def test_mean_similarity_separates_matching_captions():
    means = np.full((90, 90), -0.25)
    for digit in range(10):
        block = slice(9 * digit, 9 * digit + 9)
        means[block, block] = 0.5
    np.fill_diagonal(means, 0.75)
    means[3] = np.nan  # no image has this caption
    arrays = {
        "images": RANDOM.random((10, 8, 8, 1)),
        "captions": np.array([f"a {digit}" for digit in range(10)]),
        "cosines": np.eye(10),
        "means": means,
    }
    single, mean = render(contrastive.similarity, arrays)
    texts = [text.get_text() for text in single.figure.axes[0].texts]
    assert texts.count("1.0") == 10
    assert "matching caption 0.75" in mean.caption
    assert "same digit 0.50" in mean.caption
    assert "other digits -0.25" in mean.caption


def test_frame_colors_show_relevance():
    right = np.array([[True, False, True], [False, False, True]])
    arrays = {"texts": np.array(["a seven", "a two, thin"]), "relevant": right}
    arrays["images"] = RANDOM.random((2, 3, 8, 8, 1))
    item = render(contrastive.retrieval, arrays)
    frames = [axes.spines["top"].get_edgecolor() for axes in item.figure.axes]
    assert (np.array([frame == frames[0] for frame in frames]).reshape(2, 3) == right).all()
    assert "3 of 6" in item.caption


@pytest.mark.parametrize("most", [1, 70, 2_000_000])
def test_reliability_plots_bins_with_predictions(most):
    count = np.zeros((2, 10))
    count[:, [0, 9]] = most
    accuracy = np.where(count > 0, 0.4, np.nan)
    arrays = {"names": np.array(["classes", "pairs"]), "count": count, "accuracy": accuracy}
    item = render(contrastive.reliability, arrays | {"confidence": accuracy})
    assert len(item.figure.axes) == 4
