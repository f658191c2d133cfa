"""Fixtures of the attention tests."""

import numpy as np
import pytest
from scipy.special import softmax


def reference_attention(query, key, value, mask, bias=0.0):
    """Attention by its definition, one query at a time, in float64."""
    output = np.zeros(query.shape)
    mask = np.broadcast_to(mask, (*query.shape[:3], key.shape[2]))
    bias = np.broadcast_to(bias, mask.shape)
    for b, h, q in np.ndindex(*query.shape[:3]):
        visible = np.flatnonzero(mask[b, h, q])
        scores = [
            float(query[b, h, q] @ key[b, h, k]) / query.shape[-1] ** 0.5 + bias[b, h, q, k]
            for k in visible
        ]
        for k, weight in zip(visible, softmax(scores) if scores else [], strict=True):
            output[b, h, q] += weight * value[b, h, k]
    return output


@pytest.fixture(name="reference", scope="session")
def reference_fixture():
    """Attention by its definition in numpy."""
    return reference_attention
