"""What tests of attention share."""

import numpy as np
import pytest
from scipy.special import softmax


def attention_by_hand(query, key, value, mask, bias=0.0):
    """The definition, one query at a time, in float64."""
    output = np.zeros(query.shape)
    mask = np.broadcast_to(mask, (*query.shape[:3], key.shape[2]))
    bias = np.broadcast_to(bias, mask.shape)
    for b, h, q in np.ndindex(*query.shape[:3]):
        seen = np.flatnonzero(mask[b, h, q])
        scores = [
            float(query[b, h, q] @ key[b, h, k]) / query.shape[-1] ** 0.5 + bias[b, h, q, k]
            for k in seen
        ]
        for k, weight in zip(seen, softmax(scores) if scores else [], strict=True):
            output[b, h, q] += weight * value[b, h, k]
    return output


@pytest.fixture(name="by_hand", scope="session")
def by_hand_fixture():
    """The definition of attention in numpy."""
    return attention_by_hand
