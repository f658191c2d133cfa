"""Every published figure that a run is compared with, once, with the document it came from."""

import dataclasses
from collections.abc import Mapping
from typing import Any

WRITE_UP = "course write-up of the character GPT lab (unpublished)"
NANOGPT = "README of karpathy/nanoGPT"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """One figure as its document states it.

    Attributes:
      experiment: the command under `experiments/` that the figure belongs to.
      presets: the presets of that command that are set against it.
      figure: what the document calls it, in a few words.
      metric: our name for it, a key of the summary's `metrics`, or `parameters` or `seconds`.
      value: the figure, in `unit`.
      unit: "nats" (per target), "seconds" or "parameters".
      source: the document.
      comparable: whether both figures measure the same thing in the same way.
      note: how the document measured; where not comparable, why not.
    """

    experiment: str
    presets: tuple[str, ...]
    figure: str
    metric: str
    value: float
    unit: str
    source: str
    comparable: bool
    note: str


FIGURES = (
    Published(
        experiment="gpt",
        presets=("reference",),
        figure="parameters",
        metric="parameters",
        value=10_690_625,
        unit="parameters",
        source=WRITE_UP,
        comparable=True,
        note="65 characters; positions are fixed and hold no parameters",
    ),
    Published(
        experiment="gpt",
        presets=("reference",),
        figure="training loss after 2000 steps",
        metric="train_loss",
        value=1.155,
        unit="nats",
        source=WRITE_UP,
        comparable=True,
        note="read as the loss of the training steps, dropout on, since it lies above the other",
    ),
    Published(
        experiment="gpt",
        presets=("reference",),
        figure="“validation” loss after 2000 steps",
        metric="held_out_loss",
        value=0.988,
        unit="nats",
        source=WRITE_UP,
        comparable=False,
        note=(
            "it lies below the write-up's own training loss, and far below any loss on unseen text "
            "of a model this size, so its windows must have been trained on; ours are held out"
        ),
    ),
    Published(
        experiment="gpt",
        presets=("reference",),
        figure="time for 2000 steps on a CPU",
        metric="seconds",
        value=6 * 3600 + 32 * 60,
        unit="seconds",
        source=WRITE_UP,
        comparable=False,
        note="ours is another machine",
    ),
    Published(
        experiment="gpt",
        presets=("reference", "best"),
        figure="nanoGPT, best validation loss",
        metric="held_out_loss",
        value=1.4697,
        unit="nats",
        source=f"{NANOGPT}, train_shakespeare_char",
        comparable=True,
        note="same size and split; the best of 5000 steps, estimated on random windows",
    ),
    Published(
        experiment="gpt",
        presets=("quick",),
        figure="nanoGPT, three minutes on a CPU",
        metric="held_out_loss",
        value=1.88,
        unit="nats",
        source=f"{NANOGPT}, CPU recipe",
        comparable=True,
        note="same split, 4 blocks of width 128, context 64; estimated on random windows",
    ),
)


def compare(
    experiment: str, preset: str, metrics: Mapping[str, float], *, why_not: str = ""
) -> list[dict[str, Any]]:
    """Sets a run's figures against the published ones of its experiment and preset.

    Args:
      experiment: name of the experiment.
      preset: name of the preset; one without published figures gives no rows.
      metrics: our figures by name; `parameters` and `seconds` count among them.
      why_not: what makes the whole run differ from the published ones (other data, other steps);
        empty when nothing does.

    Returns:
      Rows `figure, metric, unit, published, ours, source, comparable, why_not, note`, plain values
      fit for JSON. `ours` is None where the run has no such figure; `why_not` is empty where
      comparable, and `note` holds how the document measured.
    """
    return [
        {
            "figure": record.figure,
            "metric": record.metric,
            "unit": record.unit,
            "published": record.value,
            "ours": metrics.get(record.metric),
            "source": record.source,
            "comparable": record.comparable and not why_not,
            "why_not": "; ".join(filter(None, (why_not, "" if record.comparable else record.note))),
            "note": record.note,
        }
        for record in FIGURES
        if record.experiment == experiment and preset in record.presets
    ]
