"""Tests of jaxlabs/labs/attention/plots.py: figures and captions show their arrays."""

import numpy as np
import pytest

from jaxlabs.labs.attention import plots as attention_study
from jaxlabs.report import style


@pytest.fixture(autouse=True)
def mpl_style():
    with style.mpl_style():
        yield


def lines(axes):
    return [line.get_ydata() for line in axes.get_lines()]


def depth_arrays():
    loss = np.array([[0.01, 0.02], [2.0, 300.0], [1.5, 2.0], [1.6, 1.9]])
    norm = np.array([[1.0, 3.0], [4.0, 5e6], [0.5, 0.07], [0.4, 1e-4]])
    spread = np.array([0.9, 1.0, 1.3])
    variants = np.array(["residual + LayerNorm", "residual only", "LayerNorm only", "neither"])
    return {
        "depths": np.array([1, 16]),
        "variants": variants,
        "final_loss": loss[..., None] * spread,
        "gradient_norm": norm[..., None] * spread,
        "chance": np.log(8),
    }


def heads_arrays(counts=(1, 4)):
    profiles = {count: np.full((2, count, 7), 0.02) for count in counts}
    for count in counts:
        for head in range(count):
            profiles[count][:, head, (5, 3, 1, 5)[head]] = 0.9
    costs = {count: np.zeros((2, count, 3)) for count in counts}
    costs[counts[-1]][:, 0, 2] = 1.0
    return {
        "heads": np.array(counts),
        "offsets": np.array([1, 3, 5]),
        "chance": np.log(8),
        "parameters": np.array([5664] * len(counts)),
        "loss": np.array([[1.0, 1.2], [0.01, 0.03]])[: len(counts)],
        "specialization": np.array([[0.3, 0.4], [0.8, 0.9]])[: len(counts)],
        **{f"profiles_{count}": array for count, array in profiles.items()},
        **{f"costs_{count}": array for count, array in costs.items()},
    }


def test_depth_plots_medians_and_reports_the_deepest_stacks():
    item = attention_study.depth(depth_arrays())
    upper, lower = item.figure.axes[:2]
    np.testing.assert_allclose(lines(upper)[1], [2.0, 300.0])
    np.testing.assert_allclose(lines(lower)[3], [0.4, 1e-4])
    assert "with 16 blocks: with both 0.02 nats and 3" in item.caption
    assert "without LayerNorm 3e+02 and 5e+06" in item.caption
    assert "without residual connections 2 and 0.07" in item.caption
    assert "without both 1.9 and 0.0001" in item.caption
    assert upper.get_ylim()[1] < 10  # diverged runs do not compress the axis


def test_heads_plots_every_head_and_reports_needed_heads():
    item = attention_study.heads(heads_arrays())
    maps = [axes for axes in item.figure.axes if axes.images and axes.get_xlabel()]
    names = [label.get_text() for label in maps[0].get_yticklabels()]
    assert names == ["1 of 1", "1 of 4", "2 of 4", "3 of 4", "4 of 4"]
    rows = np.ma.filled(maps[0].images[0].get_array(), 0)
    np.testing.assert_allclose(rows[[0, 2, 3, 4, 5]].argmax(axis=1), [5, 5, 3, 1, 5])
    assert "1.1 with 1 head, 0.02 with 4 heads" in item.caption
    assert "to the offsets 5, 3, 1, 5" in item.caption
    assert "Ablating 1 of these heads" in item.caption


def test_single_model_and_depth_are_plotted():
    arrays = depth_arrays()
    cut = {name: arrays[name][:, :1] for name in ("final_loss", "gradient_norm")}
    deepest = attention_study.depth(arrays | cut | {"depths": arrays["depths"][:1]})
    for item in (deepest, attention_study.heads(heads_arrays((1,)))):
        assert style.png(item.figure).startswith(b"\x89PNG")


@pytest.mark.parametrize("heads", [1, 3])
def test_cross_attention_is_plotted_for_every_head_with_memory_labels(heads):
    weights = np.full((heads, 2, 3), 0.5)
    weights[..., 2] = 0
    arrays = {
        "labels": np.array(["a", "cat"]),
        "memory_labels": np.array(["a", "dog", "<PAD>"]),
        "self_weights": np.full((heads, 2, 2), 0.5),
        "cross_weights": weights,
    }
    item = attention_study.self_and_cross_attention(arrays)
    maps = [axes for axes in item.figure.axes if axes.images and axes.get_title("left")]
    shown = [axes for axes in maps if axes.get_visible()]
    assert len(shown) == 2 * heads
    last = shown[-1]
    assert [label.get_text() for label in last.get_xticklabels()] == ["a", "dog", "<PAD>"]
    assert np.ma.getmaskarray(last.images[0].get_array())[:, 2].all()


def test_scaled_dot_product_shows_its_values():
    step = {"query": np.zeros((2, 8)), "raw_weights": np.eye(2), "weights": np.full((2, 2), 0.5)}
    step |= {"raw_scores": np.array([[8.0, -8], [0, 1]]), "scaled_scores": np.full((2, 2), 0.25)}
    item = attention_study.scaled_dot_product(step)
    written = [text.get_text() for axes in item.figure.axes for text in axes.texts]
    assert written == ["8.00", "-8.00", "0.00", "1.00", "1.00", "0.00", "0.00", "1.00"] + (
        ["0.25"] * 4 + ["0.50"] * 4
    )


def test_scaling_plots_unscaled_and_scaled_scores():
    quantiles = np.array([[0.1, 0.3, 0.4], [1e-6, 1e-3, 0.1]])
    arrays = {"dims": np.array([4, 1024]), "keys": np.array(16), "raw_gradient": quantiles}
    arrays |= {"scaled_gradient": quantiles[[0, 0]], "raw_entropy": np.array([1.7, 0.1])}
    item = attention_study.scaling(arrays | {"scaled_entropy": np.array([2.3, 2.4])})
    upper, lower = item.figure.axes
    np.testing.assert_array_equal(lines(upper)[:2], [[1.7, 0.1], [2.3, 2.4]])
    np.testing.assert_array_equal(lines(lower)[:2], [[0.3, 1e-3], [0.3, 0.3]])
    assert "entropy 0.10 nats at d_k = 1024" in item.caption
    assert "median 0.001" in item.caption
