"""A plain autoencoder beside the principal components of its pictures."""

from typing import Any

import numpy as np
import scipy.linalg

from jaxlabs.models.autoencoder import Autoencoder


def against_pca(
    model: Autoencoder, params: Any, train: np.ndarray, test: np.ndarray
) -> dict[str, float]:
    """Sets a plain autoencoder against principal components, as many as its code has units.

    Args:
      model: a plain autoencoder.
      params: its parameters.
      train: [count, ...] uint8 pictures, whose components are taken.
      test: [count, ...] uint8 pictures, whose error is measured.

    Returns:
      `pca_squared_error`, the sum over a test picture's pixels; and for a linear autoencoder
      `pca_angle`, the largest angle between the two subspaces, in degrees (Bourlard and Kamp 1988:
      its best subspace is that of the components).
    """
    train, test = (rows.reshape(len(rows), -1).astype(np.float64) / 255 for rows in (train, test))
    components = principal_components(train, model.config.latent_dim)
    centered = test - train.mean(axis=0)
    missed = centered - centered @ components.T @ components
    figures = {"pca_squared_error": float(np.square(missed).sum(axis=1).mean())}
    if model.config.num_hidden_layers == 0:
        decoder = np.asarray(params["output"]["kernel"], np.float64)
        angles = scipy.linalg.subspace_angles(decoder.T, components.T)
        figures["pca_angle"] = float(np.degrees(angles.max()))
    return figures


def principal_components(rows: np.ndarray, count: int) -> np.ndarray:
    """Returns the first `count` components of rows `[examples, values]`, orthonormal, as rows."""
    centered = rows - rows.mean(axis=0)
    _, axes = np.linalg.eigh(centered.T @ centered)
    return axes.T[::-1][:count]
