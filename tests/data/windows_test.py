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


class Counted:
    """Numbered tokens that are made when they are read; counts those."""

    def __init__(self, length: int):
        self.length, self.read = length, 0

    def __len__(self):
        return self.length

    def __getitem__(self, part):
        start, stop, _ = part.indices(self.length)
        self.read += stop - start
        return np.arange(start, stop)

    def windows(self, start, length):
        assert 0 <= np.min(start) <= np.max(start) <= self.length - length
        self.read += len(start) * length
        return np.asarray(start)[:, None] + np.arange(length)[None, :]


LONG = {
    "consecutive": lambda tokens, limit: windows.consecutive_windows(tokens, 8, limit),
    "long": lambda tokens, limit: windows.long_windows(tokens, 8, 4, limit),
    "sliding": lambda tokens, limit: windows.sliding_windows(tokens, 8, 2, limit),
}


@pytest.mark.parametrize("make", LONG.values(), ids=LONG)
def test_of_a_long_text_only_evenly_spaced_windows_are_read(make):
    tokens = Counted(10**9)
    examples = make(tokens, 100)
    count, length = examples.arrays["weights"].shape
    assert 80 < count * length <= 100
    assert tokens.read == count * (length + 1)  # with the last target of each
    check_windows(examples, length)
    starts = examples.arrays["inputs"][:, 0].astype(np.int64)
    assert (starts[0], starts[-1]) == (0, 10**9 - length - 1)
    assert np.ptp(np.diff(starts)) <= 1


def test_sampled_sliding_windows_score_their_last_targets():
    weights = windows.sliding_windows(Counted(10**6), 8, 2, eval_tokens=100).arrays["weights"]
    np.testing.assert_array_equal(weights, np.tile([0, 0, 0, 0, 0, 0, 1, 1], (12, 1)))


@pytest.mark.parametrize("make", LONG.values(), ids=LONG)
def test_text_of_at_most_the_limit_is_read_as_a_whole(make):
    tokens = numbered(101)
    whole, limited = make(tokens, None), make(tokens, 100)
    for name, array in whole.arrays.items():
        np.testing.assert_array_equal(limited.arrays[name], array)
    assert scored(whole) == list(range(1, 101))
    assert len(scored(make(tokens, 99))) < 100


def test_the_default_limit_is_beyond_the_held_out_part_of_tiny_shakespeare():
    assert len(scored(windows.consecutive_windows(Counted(500_001), 128))) == 500_000
    sample = windows.consecutive_windows(Counted(500_002), 128)
    assert len(scored(sample)) == 500_000 // 128 * 128


def test_long_windows_are_few_and_score_every_target():
    examples = windows.long_windows(numbered(1000), 8, rows=4)
    assert examples.arrays["weights"].shape == (4, 250)
    assert scored(examples) == list(range(1, 1000))
    assert windows.long_windows(numbered(20), 8, rows=4).count == 2  # of at least 8 tokens


def test_random_windows_of_a_huge_text_have_starts_in_int32():
    examples = windows.random_windows(Counted(2**40), 8, 100, seed=0)
    assert np.ptp(examples.arrays["inputs"][:, 0]) > 2**30


@pytest.mark.parametrize("make", LONG.values(), ids=LONG)
def test_limit_below_a_window_is_refused(make):
    with pytest.raises(UserError, match=r"^eval_tokens: 7 is not accepted; .* window, 8 tokens$"):
        make(Counted(10**6), 7)


@pytest.mark.parametrize("make", [LONG["consecutive"], LONG["sliding"]])
def test_windows_that_do_not_fit_into_memory_are_refused_before_they_are_read(make):
    tokens = Counted(2**46)
    with pytest.raises(
        UserError, match=r"^eval_tokens: [\d,]+ tokens need [\d,.]+ GB as windows; "
    ):
        make(tokens, 2**46)
    assert tokens.read == 0
