"""What a sparse autoencoder has found: its filters, how rarely they answer, what they miss."""

import dataclasses
from typing import Any

import numpy as np

from jaxlabs.analysis.gabor import fit_gabors
from jaxlabs.data import whitening
from jaxlabs.data.natural_images import Photographs, whitened
from jaxlabs.models.sparse_autoencoder import SparseAutoencoder
from jaxlabs.run_folder import RunFolder

SHOWN = 12
"""Patches drawn beside their reconstructions."""

ON = 0.1
"""Activation from which a unit counts as active."""

TERMS = ("reconstruction", "weight_term", "sparsity_term")


def filters(params: Any, size: int) -> np.ndarray:
    """Returns what each hidden unit looks for, `[hidden, size, size]`.

    Under a limit on a patch's norm the patch that excites a unit most is its row of weights, up to
    a factor.
    """
    return np.asarray(params["encoder_kernel"]).T.reshape(-1, size, size)


def as_pictures(found: np.ndarray) -> np.ndarray:
    """Returns filters in [0, 1], the contrast of each as large as it can be, 0.5 for no weight."""
    reach = np.abs(found).max(axis=(1, 2), keepdims=True)
    return (found / np.maximum(reach, np.finfo(found.dtype).tiny) + 1) / 2


def write_code(
    model: SparseAutoencoder, params: Any, patches: np.ndarray, folder: RunFolder
) -> dict[str, float]:
    """Measures the code of `patches [count, pixels]`; writes arrays of it for the report.

    Returns:
      The means over the filters of the share of variance that a Gabor function explains, the share
      of filters where it explains more than half, and the share of activations above `ON`.
    """
    config = model.config
    code, output = map(np.asarray, model.apply({"params": params}, patches))
    found = filters(params, config.patch_size)
    inputs, outputs = (rows[:SHOWN].reshape(-1, *found.shape[1:]) for rows in (patches, output))
    folder.write_arrays("filters", filters=found)
    folder.write_arrays("reconstructions", inputs=np.asarray(inputs), outputs=outputs)
    folder.write_arrays(
        "activations", mean=code.mean(axis=0), values=code[:2000], target=config.sparsity_rho
    )
    fits = fit_gabors(found)
    folder.write_arrays("gabors", **dataclasses.asdict(fits))
    return {
        "gabor_variance_explained": float(fits.explained.mean()),
        "gabor_filters_above_half": float((fits.explained > 0.5).mean()),
        "active_share": float((code > ON).mean()),
    }


def write_course(folder: RunFolder, split: str, photographs: Photographs) -> dict[str, float]:
    """Writes the terms of the cost at each evaluation, and what whitening does to the pictures.

    Returns:
      The `untrained_cost`, that of the first evaluation.
    """
    rows = [
        row for row in folder.read_metrics() if row["split"] == split and row.keys() >= set(TERMS)
    ]
    terms = {name: np.array([row[name] for row in rows], float) for name in TERMS}
    folder.write_arrays("cost_terms", step=np.array([row["step"] for row in rows], int), **terms)
    if not photographs.whitened:
        white = whitened(photographs)
        folder.write_arrays("whitening", **whitening.figure_arrays(photographs.images, white))
    return {"untrained_cost": rows[0]["loss"]} if rows else {}
