"""Calls the callbacks of a lab after an evaluation, and checks what they return."""

import traceback
from collections.abc import Mapping, Sequence

from jaxlabs.config import UserError
from jaxlabs.training.signals import Interrupted
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Callback

ROW_KEYS = ("step", "split", "seconds")
"""Entries of every row of metrics.jsonl, which no metric may replace."""


def call_back(
    callbacks: Sequence[Callback],
    state: TrainState,
    metrics: Mapping[str, Mapping[str, float]],
    monitor: str,
) -> dict[str, float]:
    """Returns the metrics of the callbacks.

    Args:
      callbacks: see `Lab.callbacks`.
      state: the state, on the host.
      metrics: those of the evaluation, by split.
      monitor: name of the monitored split, whose row gets the metrics of the callbacks.

    Raises:
      UserError: a callback fails, or returns something else.
    """
    step, found = int(state.step), {}
    flat = {
        f"{split}_{name}": value for split, row in metrics.items() for name, value in row.items()
    }
    for callback in callbacks:
        name = getattr(callback, "__name__", type(callback).__name__)
        try:
            more = callback(step, state, flat) or {}
            more = {key: float(value) for key, value in more.items()}
        except Interrupted:
            raise
        except Exception as error:
            last = traceback.extract_tb(error.__traceback__)[-1]
            text = " ".join(str(error).split())
            raise UserError(
                f"{name}: the callback failed at step {step}: {type(error).__name__}: {text}"
                f" ({last.filename}, line {last.lineno})"
            ) from error
        if taken := more.keys() & {*ROW_KEYS, *found, *metrics[monitor]}:
            message = f"the callback returns {min(taken)!r}, the name of another value"
            raise UserError(f"{name}: {message}; a name that is free")
        found |= more
    return found
