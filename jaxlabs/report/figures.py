"""The figures of a run, built from its folder alone."""

import os
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from jaxlabs import published
from jaxlabs.published import Published, PublishedCurve
from jaxlabs.report import curves, images, sweeps
from jaxlabs.report.curves import Rows
from jaxlabs.report.damaged_files import DamagedFiles
from jaxlabs.report.figure import ReportFigure
from jaxlabs.report.loss import loss_curves
from jaxlabs.report.published_curves import published_comparison
from jaxlabs.run_folder import RunFolder

Plot = Callable[[Mapping[str, np.ndarray]], ReportFigure | list[ReportFigure] | None]
"""`plot(arrays of one file) -> figure`, several figures, or None."""

COMMON_PLOTS: Mapping[str, Plot] = {"lr_range": curves.learning_rate_range}
"""Plots of arrays that every lab can have."""


def build_figures(
    folder: RunFolder,
    damaged: DamagedFiles,
    plots: Mapping[str, Plot],
    records: Sequence[Published | PublishedCurve],
) -> list[ReportFigure]:
    """Returns the figures of a run in reading order, for the files that exist.

    Call it within `style.mpl_style()`, and render the figures within the same context. Damaged
    files are skipped and recorded. `plots` are the lab's, by file name under arrays/ without .npz;
    files without a plot are ignored.
    """
    config, summary = folder.read_config(), summary_so_far(folder)
    rows, unreadable = folder.read_rows()
    if unreadable:
        damaged.add(folder.metrics.name, f"{unreadable} unreadable lines")
    unit = config.get("loss_unit", "nats")
    records = published.in_unit(records, unit)
    published_curves = published.curves(records, config["preset"])
    reason = config.get("not_comparable_reason", "")
    figures: list[ReportFigure | None] = []
    with damaged.skip_if_damaged("metrics.jsonl or summary.json"):
        baselines, published_losses = summary.get("baselines", {}), comparison(folder, records)
        figures.append(loss_curves(rows, baselines, published_losses, unit))
    with damaged.skip_if_damaged("metrics.jsonl"):
        figures.append(published_comparison(rows, published_curves, reason))
        figures.append(curves.optimization(rows))
    if groups := summary.get("groups"):
        with damaged.skip_if_damaged("summary.json"):
            runs = {run: _rows_of(folder, run, damaged) for g in groups for run in g["runs"]}
            figures.append(sweeps.against_settings(groups, config["question"]))
            figures.append(sweeps.losses(groups, runs, unit))
    for name, build in {**plots, **COMMON_PLOTS}.items():
        if folder.arrays(name).exists():
            with damaged.skip_if_damaged(f"arrays/{name}.npz"):
                built = build(folder.read_arrays(folder.arrays(name)))
                figures += built if isinstance(built, list) else [built]
    figures += _samples(folder, damaged)
    return [figure for figure in figures if figure is not None]


def _rows_of(folder: RunFolder, run: str, damaged: DamagedFiles) -> Rows:
    """Returns the logged rows of one run of a sweep; none if they cannot be read."""
    if os.path.basename(run) != run or run == "..":
        raise ValueError(f"{run!r} is not a run name")
    with damaged.skip_if_damaged(f"runs/{run}/metrics.jsonl"):
        rows, unreadable = RunFolder(folder.runs / run).read_rows()
        if unreadable:
            damaged.add(f"runs/{run}/metrics.jsonl", f"{unreadable} unreadable lines")
        return rows
    return []


def _samples(folder: RunFolder, damaged: DamagedFiles) -> list[ReportFigure]:
    """Returns figures of the image samples, `images [count, height, width(, channels)]`.

    Text samples are not figures; the page shows them as text.
    """
    final, shape = folder.samples / "final.npz", None
    figures, by_step = [], {}
    if final.exists():
        with damaged.skip_if_damaged("samples/final.npz"):
            if (found := _images(folder, final)) is not None:
                shape = found.shape[1:]
                figures.append(images.samples(found))
    for step, path in folder.step_samples("npz").items():
        with damaged.skip_if_damaged(f"samples/{path.name}"):
            if (found := _images(folder, path)) is not None:
                shape = shape or found.shape[1:]
                if found.shape[1:] != shape:
                    raise ValueError(f"images of shape {found.shape[1:]}, not {shape}")
                by_step[step] = found
    if by_step:
        figures.append(images.samples_during_training(by_step))
    return figures


def _images(folder: RunFolder, path: pathlib.Path) -> np.ndarray | None:
    found = folder.read_arrays(path).get("images")
    if found is None:
        return None
    if found.ndim not in (3, 4) or found.dtype.kind not in "fiu" or not found.size:
        raise ValueError(f"images of {found.dtype} and shape {found.shape} cannot be plotted")
    return found


def summary_so_far(folder: RunFolder) -> dict[str, Any]:
    """Returns the summary, or an empty one if the run is not complete."""
    return folder.read_summary() if folder.is_complete() else {}


def comparison(
    folder: RunFolder, records: Sequence[Published | PublishedCurve]
) -> list[dict[str, Any]]:
    """Returns published results beside the run's metrics, as far as it has come."""
    config = folder.read_config()
    records = published.in_unit(records, config.get("loss_unit", "nats"))
    rows = published.compare(records, config["preset"], {})
    return summary_so_far(folder).get("comparison", rows)
