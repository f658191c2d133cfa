"""Training losses by epoch, as write-ups state them."""

from collections.abc import Mapping, Sequence
from typing import Any


def mean_losses(rows: Sequence[Mapping[str, Any]], steps: int) -> dict[str, float]:
    """Returns `epoch_<number>_loss`, the mean training loss over each whole epoch.

    Args:
      rows: of metrics.jsonl.
      steps: in an epoch. An epoch of which any step was not logged is left out.
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
