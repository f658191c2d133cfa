"""Registry of plot functions: builds all figures of a run from its folder alone."""

import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxlabs import published
from jaxlabs.report import (
    attention_plots,
    attention_study,
    benchmark,
    confusion,
    contrastive,
    curves,
    diffusion,
    images,
    latent,
    normalization,
    recurrent_gradients,
    recurrent_memory,
    sequence_patterns,
    sparse_code,
    sweeps,
    worked_problems,
)
from jaxlabs.report.curves import Rows
from jaxlabs.report.damaged_files import DamagedFiles
from jaxlabs.report.figure import ReportFigure
from jaxlabs.report.loss import loss_curves
from jaxlabs.report.published_curves import published_comparison
from jaxlabs.run_folder import RunFolder

# Name of a file under arrays/ (without .npz) -> plot function. Other files are ignored.
FIGURE_BUILDERS: dict[str, Callable[[Mapping[str, np.ndarray]], list[ReportFigure]]] = {
    "scaled_dot_product": attention_study.scaled_dot_product,
    "attention_scaling": attention_study.scaling,
    "attention_maps": attention_plots.attention,
    "heads_and_memory": attention_study.heads_and_memory,
    "attention_depth": attention_study.depth,
    "attention_heads": attention_study.heads,
    "confusion": confusion.confusion,
    "positions": attention_plots.positions,
    "lr_range": curves.learning_rate_range,
    "filters": images.filters,
    "activations": sparse_code.activations,
    "cost_terms": sparse_code.cost_terms,
    "gabors": sparse_code.gabors,
    "reconstructions": images.reconstructions,
    "whitening": images.whitening,
    "latent_map": latent.latent_map,
    "interpolations": latent.interpolations,
    "random_codes": latent.random_codes,
    "latent_units": latent.latent_units,
    "two_step_rnn": recurrent_gradients.two_step,
    "spectral_sweep": recurrent_gradients.spectral_sweep,
    "gradient_through_time": recurrent_gradients.through_time,
    "cell_paths": recurrent_memory.cell_paths,
    "gates": recurrent_memory.gates,
    "clipping": recurrent_gradients.clipping,
    "weight_sharing": recurrent_memory.shared_gradients,
    "weight_sharing_rules": recurrent_memory.rules,
    "memory_adding": recurrent_memory.memory_task,
    "memory_copying": recurrent_memory.memory_task,
    "worked_scale": worked_problems.scale,
    "worked_ravine": worked_problems.ravine,
    "worked_batch_norm": worked_problems.batch_norm,
    "worked_temperature": worked_problems.temperature,
    "misclassified": confusion.misclassified,
    "forward_process": diffusion.forward_process,
    "trajectory": diffusion.trajectory,
    "animation": diffusion.animation,
    "sampler_quality": diffusion.sampler_quality,
    "class_histogram": diffusion.class_histogram,
    "neighbors": diffusion.neighbors,
    "loss_by_time": diffusion.loss_by_time,
    "sequence_pattern": sequence_patterns.pattern,
    "alignment": sequence_patterns.alignment,
    "tagged_words": sequence_patterns.tagged_words,
    "benchmark_ratios": benchmark.ratios,
    "window_attention": benchmark.window_attention,
    "norm_training": normalization.training,
    "activation_scale": normalization.activation_scale,
    "batch_noise": normalization.batch_noise,
    "similarity": contrastive.similarity,
    "retrieval": contrastive.retrieval,
    "reliability": contrastive.reliability,
}


def build_figures(folder: RunFolder, damaged: DamagedFiles) -> list[ReportFigure]:
    """Returns the figures of a run in reading order, for the files that exist.

    Damaged files are skipped and recorded in `damaged`. Call it within `style.mpl_style()`, and
    render the figures within the same context.
    """
    config, summary = folder.read_config(), summary_so_far(folder)
    rows, unreadable = folder.read_rows()
    if unreadable:
        damaged.add(folder.metrics.name, f"{unreadable} unreadable lines")
    unit = config.get("loss_unit", "nats")
    published_curves = published.curves(config["experiment"], config["preset"])
    figures: list[ReportFigure | None] = []
    with damaged.skip_if_damaged("metrics.jsonl or summary.json"):
        figures.append(loss_curves(rows, summary.get("baselines", {}), comparison(folder), unit))
    with damaged.skip_if_damaged("metrics.jsonl"):
        figures.append(
            published_comparison(rows, published_curves, config.get("not_comparable_reason", ""))
        )
        figures.append(curves.optimization(rows))
    if groups := summary.get("groups"):
        with damaged.skip_if_damaged("summary.json"):
            runs = {run: _rows_of(folder, run, damaged) for g in groups for run in g["runs"]}
            figures.append(sweeps.against_settings(groups, config["question"]))
            figures.append(sweeps.losses(groups, runs, unit))
    for name, build in FIGURE_BUILDERS.items():
        if folder.arrays(name).exists():
            with damaged.skip_if_damaged(f"arrays/{name}.npz"):
                figures += build(folder.read_arrays(folder.arrays(name)))
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


def comparison(folder: RunFolder) -> list[dict[str, Any]]:
    """Returns published results beside the run's metrics, as far as it has come."""
    config = folder.read_config()
    rows = published.compare(config["experiment"], config["preset"], {})
    return summary_so_far(folder).get("comparison", rows)
