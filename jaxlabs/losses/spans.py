"""How many spans a tagging gets exactly right: the counts behind the span F1."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


def span_counts(
    predicted: jax.Array, right: jax.Array, real: jax.Array, tags: Sequence[str]
) -> dict[str, jax.Array]:
    """Counts spans as the CoNLL-2000 evaluation does: right in kind, beginning and end, or wrong.

    A span begins at a B, and at an I that no span of its kind leads up to; it goes on with every I
    of its kind.

    Args:
      predicted: [batch, time] numbers of tags.
      right: likewise, what they should be.
      real: [batch, time] booleans; False for padding, which ends a span.
      tags: "O", "B-<kind>", "I-<kind>" by number; whatever else is there counts as O.

    Returns:
      `spans_right`, `spans_predicted` and `spans_there`, each [batch].
    """
    found, true = (_spans(sequence, real, tags) for sequence in (predicted, right))
    agree = found.begins & true.begins & (found.kind == true.kind) & (found.end == true.end)
    counts = {"spans_right": agree, "spans_predicted": found.begins, "spans_there": true.begins}
    return {name: flags.sum(axis=1) for name, flags in counts.items()}


def span_f1(right: float, predicted: float, there: float) -> float:
    """Returns the harmonic mean of precision and recall of spans; 0 where there is none at all."""
    return 2 * right / (predicted + there) if predicted + there else 0.0


class _Spans(NamedTuple):
    """Of every place, [batch, time]: whether a span begins there, of which kind, and its end."""

    begins: jax.Array
    kind: jax.Array
    end: jax.Array


def _spans(sequence: jax.Array, real: jax.Array, tags: Sequence[str]) -> _Spans:
    kinds = sorted({tag[2:] for tag in tags if tag[:2] in ("B-", "I-")})
    number_of = {kind: number for number, kind in enumerate(kinds)}
    kind_of = np.array([number_of.get(tag[2:], -1) for tag in tags], np.int32)
    is_begin = np.array([tag[:2] == "B-" for tag in tags])
    kind = jnp.where(real, jnp.asarray(kind_of)[sequence], -1)
    before = jnp.pad(kind, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    begins = (kind >= 0) & (jnp.asarray(is_begin)[sequence] | (kind != before))
    cond = (kind >= 0) & ~begins
    time = jnp.arange(sequence.shape[1])[None, :]
    # A place is the last of its span where the next one does not go on.
    stops = ~jnp.pad(cond, ((0, 0), (0, 1)))[:, 1:]
    last = jnp.where(stops, time, sequence.shape[1])
    return _Spans(begins, kind, jax.lax.cummin(last, axis=1, reverse=True))
