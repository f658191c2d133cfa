"""Counts of exactly matching spans for the span F1."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


def span_counts(
    predicted: jax.Array, gold: jax.Array, valid: jax.Array, tags: Sequence[str]
) -> dict[str, jax.Array]:
    """Counts spans as the CoNLL-2000 evaluation: correct if kind, start and end match.

    A span starts at a B tag, or at an I tag that does not continue a span of its kind; it continues
    over I tags of its kind. Padding, where `valid` is False, ends a span.

    Args:
      predicted: [batch, time] tag indices.
      gold: [batch, time] tag indices.
      valid: [batch, time] booleans.
      tags: tag names by index: "O", "B-<kind>", "I-<kind>"; any other name counts as O.

    Returns:
      `spans_correct`, `spans_predicted` and `spans_gold`, each [batch].
    """
    ours, true = (_spans(sequence, valid, tags) for sequence in (predicted, gold))
    correct = ours.starts & true.starts & (ours.kind == true.kind) & (ours.end == true.end)
    counts = {"spans_correct": correct, "spans_predicted": ours.starts, "spans_gold": true.starts}
    return {name: flags.sum(axis=1) for name, flags in counts.items()}


def span_f1(correct: float, predicted: float, gold: float) -> float:
    """Returns the harmonic mean of precision and recall of spans; 0 without any spans."""
    return 2 * correct / (predicted + gold) if predicted + gold else 0.0


class _Spans(NamedTuple):
    """Per position, [batch, time]: whether a span starts, the kind, and the end of the span."""

    starts: jax.Array
    kind: jax.Array
    end: jax.Array


def _spans(sequence: jax.Array, valid: jax.Array, tags: Sequence[str]) -> _Spans:
    kinds = sorted({tag[2:] for tag in tags if tag[:2] in ("B-", "I-")})
    index_of = {kind: number for number, kind in enumerate(kinds)}
    in_span = [tag[:2] in ("B-", "I-") for tag in tags]
    kind_of = np.array([index_of[t[2:]] if b else -1 for t, b in zip(tags, in_span, strict=True)])
    is_b_tag = np.array([tag[:2] == "B-" for tag in tags])
    kind = jnp.where(valid, jnp.asarray(kind_of)[sequence], -1)
    prev_kind = jnp.pad(kind, ((0, 0), (1, 0)), constant_values=-1)[:, :-1]
    starts = (kind >= 0) & (jnp.asarray(is_b_tag)[sequence] | (kind != prev_kind))
    continues = (kind >= 0) & ~starts
    time = jnp.arange(sequence.shape[1])[None, :]
    # A position is the last of its span where the next one does not continue it.
    stops = ~jnp.pad(continues, ((0, 0), (0, 1)))[:, 1:]
    last = jnp.where(stops, time, sequence.shape[1])
    return _Spans(starts, kind, jax.lax.cummin(last, axis=1, reverse=True))
