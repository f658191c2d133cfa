"""Mean training loss of each epoch."""

from collections.abc import Mapping, Sequence
from typing import Any


def mean_losses(rows: Sequence[Mapping[str, Any]], steps: int) -> dict[str, float]:
    """Returns `epoch_<number>_loss`, the mean training loss over each whole epoch.

    Args:
      rows: rows of metrics.jsonl.
      steps: steps per epoch. Epochs with unlogged steps are excluded.
    """
    by_epoch: dict[int, list[float]] = {}
    for row in rows:
        if row["split"] == "train" and row["loss"] is not None:
            by_epoch.setdefault(-(-row["step"] // steps), []).append(row["loss"])
    return {
        f"epoch_{epoch}_loss": sum(losses) / steps
        for epoch, losses in by_epoch.items()
        if len(losses) == steps
    }
