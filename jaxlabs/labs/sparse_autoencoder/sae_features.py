"""Filters, activations, reconstructions and cost terms of a sparse autoencoder."""

from typing import Any

import numpy as np

from jaxlabs.data import whitening
from jaxlabs.data.natural_images import Photographs, whiten_images
from jaxlabs.labs.sparse_autoencoder.gabor import fit_gabors
from jaxlabs.models.sparse_autoencoder import SparseAutoencoder
from jaxlabs.run_folder import RunFolder

SHOWN = 12
"""Patches that are plotted beside their reconstructions."""

ACTIVE_THRESHOLD = 0.1
"""A unit is active if its activation exceeds this value."""

TERMS = ("reconstruction", "weight_term", "sparsity_term")


def filters(params: Any, size: int) -> np.ndarray:
    """Returns the filter of each hidden unit, `[hidden, size, size]`.

    Among patches of bounded norm, the input that maximizes a unit's activation is proportional to
    its weights.
    """
    return np.asarray(params["encoder_kernel"]).T.reshape(-1, size, size)


def as_images(kernels: np.ndarray) -> np.ndarray:
    """Returns filters scaled to [0, 1], each by its largest weight; a weight of 0 becomes 0.5."""
    scale = np.abs(kernels).max(axis=(1, 2), keepdims=True)
    return (kernels / np.maximum(scale, np.finfo(kernels.dtype).tiny) + 1) / 2


def write_activations(
    model: SparseAutoencoder, params: Any, patches: np.ndarray, folder: RunFolder
) -> dict[str, float]:
    """Measures the activations for `patches [count, pixels]`; writes arrays for the report.

    Returns the mean fraction of a filter's variance that a Gabor function explains, the fraction of
    filters for which it explains more than half, and that of activations above ACTIVE_THRESHOLD.
    """
    config = model.config
    code, output = map(np.asarray, model.apply({"params": params}, patches))
    kernels = filters(params, config.patch_size)
    inputs, outputs = (rows[:SHOWN].reshape(-1, *kernels.shape[1:]) for rows in (patches, output))
    folder.write_arrays("filters", filters=kernels)
    folder.write_arrays("reconstructions", inputs=np.asarray(inputs), outputs=outputs)
    activations = {"mean": code.mean(axis=0), "values": code[:2000]}
    folder.write_arrays("activations", **activations, target=config.sparsity_rho)
    fits = fit_gabors(kernels)
    folder.write_arrays("gabors", **fits._asdict())
    return {
        "gabor_variance_explained": float(fits.explained.mean()),
        "gabor_filters_above_half": float((fits.explained > 0.5).mean()),
        "active_share": float((code > ACTIVE_THRESHOLD).mean()),
    }


def write_cost_terms(folder: RunFolder, split: str, photographs: Photographs) -> dict[str, float]:
    """Writes the cost terms at each evaluation, and arrays of the effect of whitening.

    Returns `untrained_cost`, the cost at the first evaluation.
    """
    rows = [row for row in folder.read_metrics() if row["split"] == split]
    rows = [row for row in rows if row.keys() >= set(TERMS)]
    terms = {name: np.array([row[name] for row in rows], float) for name in TERMS}
    folder.write_arrays("cost_terms", step=np.array([row["step"] for row in rows], int), **terms)
    if not photographs.whitened:
        white = whiten_images(photographs)
        folder.write_arrays("whitening", **whitening.figure_arrays(photographs.images, white))
    return {"untrained_cost": rows[0]["loss"]} if rows else {}
