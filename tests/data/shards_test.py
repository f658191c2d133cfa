"""Token shards: several memory maps as one sequence, the format of llm.c, damaged files."""

import itertools
import re

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import shards
from jaxlabs.data.shards import HEADER, ShardedTokens, concatenate, open_shard

TOKENS = np.random.default_rng(0).integers(0, 50_000, 40).astype(np.uint16)
CUTS = [0, 1, 1, 13, 30, 31, 40]
HEADER_OF_LLM_C = np.array([20240520, 1, len(TOKENS)] + [0] * 253, "<i4")
WHOLE = HEADER_OF_LLM_C.tobytes() + TOKENS.astype("<u2").tobytes()


def sharded(tokens=TOKENS):
    return ShardedTokens([tokens[a:b] for a, b in itertools.pairwise(CUTS)])


def write(path, tokens, **fields):
    with shards.writer(path, tokens.dtype, fields) as file:
        file.write(tokens.data)
    return path


def test_slices_are_those_of_one_array():
    tokens = sharded()
    assert (len(tokens), tokens.dtype, tokens.shape) == (40, np.uint16, (40,))
    for start in (None, 0, 1, 12, 13, 39, 50, -3):
        for stop in (None, 0, 1, 13, 30, 31, 40, 99, -1):
            np.testing.assert_array_equal(tokens[start:stop], TOKENS[start:stop])
    with pytest.raises(ValueError, match="without a stride"):
        tokens[::2]


@pytest.mark.parametrize("length", [1, 2, 12, 40])
def test_windows_lie_within_and_across_shards(length):
    start = np.arange(40 - length + 1)[::-1]
    expected = np.lib.stride_tricks.sliding_window_view(TOKENS, length)[start]
    np.testing.assert_array_equal(sharded().windows(start, length), expected)


@pytest.mark.parametrize("start", [-1, 36])
def test_window_past_the_end_is_an_error(start):
    with pytest.raises(IndexError, match="windows of 5 tokens do not lie within 40 tokens"):
        sharded().windows(np.array([0, start]), 5)


def test_sequences_are_concatenated():
    both = concatenate([sharded(), ShardedTokens([TOKENS[:7]])])
    np.testing.assert_array_equal(both[:], np.concatenate([TOKENS, TOKENS[:7]]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32])
def test_written_shard_is_read_without_a_copy(tmp_path, dtype):
    tokens = TOKENS.astype(dtype)
    path = write(tmp_path / "a.bin", tokens, tokenizer="f" * 64, characters=2**40)
    found = open_shard(path)
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, tokens)
    header = shards.read_header(path)
    assert (header["tokenizer"].decode(), header["characters"]) == ("f" * 64, 2**40)
    assert [one.name for one in tmp_path.iterdir()] == ["a.bin"]


def test_shard_that_is_not_finished_does_not_appear(tmp_path):
    with shards.writer(tmp_path / "a.bin", TOKENS.dtype, {}) as file:
        file.write(TOKENS.data)
        assert not (tmp_path / "a.bin").exists()
    assert (tmp_path / "a.bin").exists()


def test_shards_of_nanogpt_and_of_llm_c_are_read(tmp_path):
    (tmp_path / "nano.bin").write_bytes(TOKENS.astype("<u2").tobytes())
    (tmp_path / "llm.bin").write_bytes(WHOLE)
    header = np.array([20240801, 7, len(TOKENS)] + [0] * 253, "<i4")
    (tmp_path / "llama.bin").write_bytes(header.tobytes() + TOKENS.astype("<u4").tobytes())
    for name in ("nano", "llm", "llama"):
        np.testing.assert_array_equal(open_shard(tmp_path / f"{name}.bin"), TOKENS)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (WHOLE[:-2], "truncated: 1,102 bytes, 1,104 expected"),
        (WHOLE + b"\0", "longer than its header says: 1,105 bytes, 1,104 expected"),
        (WHOLE[:1000], "truncated in its header; a token shard is needed"),
        (HEADER_OF_LLM_C.byteswap().tobytes(), "its numbers are big-endian; little-endian ones"),
        (TOKENS.tobytes()[:-1], "truncated: 79 bytes are no whole number of uint16"),
        (b"", "holds no token; a token shard is needed"),
    ],
)
def test_damaged_shard_gives_one_line(tmp_path, content, complaint):
    path = tmp_path / "a.bin"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^{re.escape(f'{path}: {complaint}')}") as caught:
        open_shard(path)
    assert "\n" not in str(caught.value)


def test_other_version_of_the_format_is_refused(tmp_path):
    path = write(tmp_path / "a.bin", TOKENS, version=2)
    with pytest.raises(UserError, match="version 2 of the format; version 1 is accepted"):
        open_shard(path)


def test_header_is_that_of_llm_c():
    header = np.zeros((), HEADER)
    header["magic"], header["version"], header["tokens"] = 1, 2, 3
    assert np.frombuffer(header.tobytes(), "<i4")[:4].tolist() == [1, 2, 3, 0]
    assert HEADER.itemsize == 256 * 4
