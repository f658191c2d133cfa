"""Draws every picture of a run from its folder alone."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxlabs import published
from jaxlabs.report import (
    attention_study,
    benchmark,
    confusion,
    contrastive,
    curves,
    diffusion,
    images,
    latent,
    maps,
    normalization,
    recurrent_gradients,
    recurrent_memory,
    sequence_patterns,
    sparse_code,
    sweeps,
    worked_problems,
)
from jaxlabs.report.loss import loss_curves
from jaxlabs.report.picture import Picture
from jaxlabs.report.published_curves import beside_published
from jaxlabs.run_folder import RunFolder

# The file under arrays/ (without .npz) -> what draws it. Other files there are left alone.
DRAWINGS: dict[str, Callable[[Mapping[str, np.ndarray]], list[Picture]]] = {
    "scaled_dot_product": attention_study.scaled_dot_product,
    "attention_scaling": attention_study.scaling,
    "attention_maps": maps.attention,
    "heads_and_memory": attention_study.heads_and_memory,
    "attention_depth": attention_study.depth,
    "attention_heads": attention_study.heads,
    "confusion": confusion.confusion,
    "positions": maps.positions,
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
    "neighbours": diffusion.neighbours,
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


def draw_all(folder: RunFolder) -> list[Picture]:
    """Returns the pictures of a run in reading order; what was not written is not drawn.

    Call it under `style.house_style()`, which also has to hold when the pictures are rendered.
    """
    config, rows, summary = folder.read_config(), folder.read_metrics(), summary_so_far(folder)
    unit = config.get("loss_unit", "nats")
    published_curves = published.curves(config["experiment"], config["preset"])
    pictures = [
        loss_curves(rows, summary.get("baselines", {}), compared(folder), unit),
        beside_published(rows, published_curves, config.get("why_not", "")),
        curves.optimisation(rows),
    ]
    if groups := summary.get("groups"):
        runs = {
            run: RunFolder(folder.runs / run).read_metrics() for g in groups for run in g["runs"]
        }
        pictures += [
            sweeps.against_settings(groups, config["question"]),
            sweeps.losses(groups, runs, unit),
        ]
    drawn = [picture for picture in pictures if picture is not None]
    for name, draw in DRAWINGS.items():
        if folder.arrays(name).exists():
            with np.load(folder.arrays(name)) as arrays:
                drawn += draw(arrays)
    return drawn + _samples(folder)


def _samples(folder: RunFolder) -> list[Picture]:
    """Returns pictures of the samples that are arrays: `images [count, height, width(, channels)]`.

    Samples that are text stand on the page as they are.
    """
    final, drawn = _images(folder.samples / "final.npz"), []
    if final is not None:
        drawn.append(images.samples(final))
    by_step = {
        int(path.stem.removeprefix("step-")): found
        for path in folder.samples.glob("step-*.npz")
        if (found := _images(path)) is not None
    }
    if by_step:
        drawn.append(images.samples_during_training(by_step))
    return drawn


def _images(path: pathlib.Path) -> np.ndarray | None:
    if not path.exists():
        return None
    with np.load(path) as arrays:
        return arrays.get("images")


def summary_so_far(folder: RunFolder) -> dict[str, Any]:
    """Returns the summary, or an empty one while the run has not ended."""
    return folder.read_summary() if folder.is_complete() else {}


def compared(folder: RunFolder) -> list[dict[str, Any]]:
    """Returns the run's figures against the published ones, as far as the run has got."""
    config = folder.read_config()
    rows = published.compare(config["experiment"], config["preset"], {})
    return summary_so_far(folder).get("compared", rows)
