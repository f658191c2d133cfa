"""Windows score the stated targets."""

import numpy as np
import pytest
from scipy import stats

from jaxlabs.config import UserError
from jaxlabs.data import windows


def numbered(length: int) -> np.ndarray:
    """Tokens that are their own positions."""
    return np.arange(length, dtype=np.uint16)


def scored(examples) -> list[int]:
    arrays = examples.arrays
    return arrays["targets"][arrays["weights"] > 0].tolist()


def check_windows(examples, context_length: int) -> None:
    arrays = examples.arrays
    assert {name: array.dtype.name for name, array in arrays.items()} == {
        "inputs": "int32",
        "targets": "int32",
        "weights": "float32",
    }
    assert all(array.shape == (examples.count, context_length) for array in arrays.values())
    valid = arrays["weights"] > 0
    assert (arrays["targets"][valid] == arrays["inputs"][valid] + 1).all()


def test_split_has_the_first_nine_tenths_for_training():
    # Published for tiny Shakespeare: 1,003,854 and 111,540 of 1,115,394 characters.
    train, held_out = windows.split_text("x" * 1_115_393 + "y")
    assert (len(train), len(held_out)) == (1_003_854, 111_540)
    assert held_out.endswith("y")
    assert windows.split_text("abcdefghijk") == ("abcdefghi", "jk")


@pytest.mark.parametrize("length", [9, 10, 16, 17, 18, 100])
def test_consecutive_windows_score_every_target_exactly_once(length):
    examples = windows.consecutive_windows(numbered(length), context_length=8)
    check_windows(examples, context_length=8)
    assert scored(examples) == list(range(1, length))
    assert examples.count == int(np.ceil((length - 1) / 8))


def test_consecutive_windows_join_without_overlap():
    examples = windows.consecutive_windows(numbered(33), context_length=8)
    np.testing.assert_array_equal(examples.arrays["inputs"].ravel(), np.arange(32))


def test_random_windows_have_uniform_starts():
    examples = windows.random_windows(numbered(20), context_length=6, count=7000, seed=0)
    check_windows(examples, context_length=6)
    times = np.bincount(examples.arrays["inputs"][:, 0], minlength=14)
    assert len(times) == 14
    assert stats.chisquare(times).pvalue > 1e-3


def test_random_windows_depend_on_the_seed_only():
    first, again, other = (
        windows.random_windows(numbered(1000), 6, 50, seed).arrays["inputs"] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_evenly_spaced_windows_span_the_text():
    starts = windows.evenly_spaced_windows(numbered(107), context_length=6, count=5).arrays[
        "inputs"
    ][:, 0]
    np.testing.assert_array_equal(starts, [0, 25, 50, 75, 100])
    check_windows(
        windows.evenly_spaced_windows(numbered(107), context_length=6, count=5), context_length=6
    )


@pytest.mark.parametrize("count", [13, 14, 15, 1000])
def test_evenly_spaced_windows_never_repeat(count):
    starts = windows.evenly_spaced_windows(numbered(20), context_length=6, count=count).arrays[
        "inputs"
    ][:, 0]
    assert len(set(starts.tolist())) == len(starts) == min(count, 14)


@pytest.mark.parametrize("length", [7, 8, 12, 13, 30])
@pytest.mark.parametrize("stride", [1, 2, 3, 6])
def test_sliding_windows_score_every_target_once_from_almost_a_full_context(length, stride):
    examples = windows.sliding_windows(numbered(length), context_length=6, stride=stride)
    check_windows(examples, context_length=6)
    assert scored(examples) == list(range(1, length))
    seen = examples.arrays["weights"][1:] * (1 + np.arange(6))[None, :]
    assert np.all(seen[seen > 0] > 6 - stride)


MAKERS = {
    "token_stream": windows.token_stream,
    "consecutive": windows.consecutive_windows,
    "random": lambda tokens, context: windows.random_windows(tokens, context, 2, seed=0),
    "evenly_spaced": lambda tokens, context: windows.evenly_spaced_windows(tokens, context, 2),
    "sliding": lambda tokens, context: windows.sliding_windows(tokens, context, 2),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_text_of_one_window_is_accepted_and_one_token_less_is_an_error(make):
    make(numbered(9), 8)
    with pytest.raises(UserError, match=r"^`context_length`=8: .* has 8 tokens; .* at least 9$"):
        make(numbered(8), 8)


def test_token_stream_keeps_the_dtype():
    stream = windows.token_stream(numbered(30), context_length=8)
    assert (stream.tokens.dtype, stream.context_length) == (np.uint16, 8)
