"""Tests of jaxlabs/training/checkpoint_arrays.py: the checksum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.training.checkpoint_arrays import checksum


def test_checksum_depends_on_every_bit():
    words = np.zeros((33, 4), np.uint32)
    words[np.arange(32), np.arange(32) % 4] = 1 << np.arange(32, dtype=np.uint32)
    checksums = {
        int(checksum({"a": jnp.ones(3), "b": jnp.asarray(row.view(np.float32))})) for row in words
    }
    assert len(checksums) == 33
    swapped = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([3.0])}
    assert int(checksum(swapped)) != int(
        checksum({"a": jnp.array([2.0, 1.0]), "b": jnp.array([3.0])})
    )


@pytest.mark.parametrize(
    "array",
    [
        np.array([True, False, True]),
        np.array([1, -2, 3], np.int8),
        np.array([1, 2, 3], np.uint16),
        np.array([1, 2, 3], jnp.bfloat16),
        np.array([1, 2, 3], np.float16),
        np.array([1, 2, 3], np.int64),
        np.array([1, 2, 3], np.float64),
    ],
    ids=lambda array: array.dtype.name,
)
def test_checksum_depends_on_every_byte_of_any_dtype(array):
    with jax.enable_x64(True):
        checksums = {int(checksum({"a": jnp.asarray(array)}))}
        for index in range(array.nbytes):
            changed = bytearray(array.tobytes())
            changed[index] ^= 1
            checksums.add(int(checksum({"a": jnp.asarray(np.frombuffer(changed, array.dtype))})))
    assert len(checksums) == 1 + array.nbytes


def test_checksum_of_32_bit_arrays_is_that_of_earlier_versions():
    """The sum of all words modulo 2^32, each times its own odd number."""
    arrays, total = {"a": np.float32([1.5, -2]), "b": np.int32([[3, -4], [5, 6]])}, 0
    for number, array in enumerate(arrays.values()):
        for index, word in enumerate(array.view(np.uint32).ravel().tolist()):
            total += word * (2 * (index + number * 0x9E3779B1) + 1)
    assert int(checksum(arrays)) == total % 2**32
