"""PCA baseline of a deterministic autoencoder."""

from typing import Any

import numpy as np

from jaxlabs.models.autoencoder import Autoencoder


def compare_with_pca(
    model: Autoencoder, params: Any, train: np.ndarray, test: np.ndarray
) -> dict[str, float]:
    """Compares a deterministic autoencoder with PCA of the same dimension.

    Args:
      model: the autoencoder.
      params: its parameters.
      train: [count, ...] uint8 images for the principal components.
      test: [count, ...] uint8 images for the reconstruction error.

    Returns:
      `pca_squared_error`, the sum over the pixels of a test image; and for a linear autoencoder
      `pca_angle`, the largest principal angle between the two subspaces in degrees (Bourlard and
      Kamp 1988: the optimal linear autoencoder spans the principal subspace).
    """
    from scipy.linalg import subspace_angles

    train, test = (rows.reshape(len(rows), -1).astype(np.float64) / 255 for rows in (train, test))
    components = principal_components(train, model.config.latent_dim)
    centered = test - train.mean(axis=0)
    residual = centered - centered @ components.T @ components
    metrics = {"pca_squared_error": float(np.square(residual).sum(axis=1).mean())}
    if model.config.num_hidden_layers == 0:
        decoder = np.asarray(params["output"]["kernel"], np.float64)
        angles = subspace_angles(decoder.T, components.T)
        metrics["pca_angle"] = float(np.degrees(angles.max()))
    return metrics


def principal_components(rows: np.ndarray, count: int) -> np.ndarray:
    """Returns the first principal components `[count, features]` of rows `[examples, features]`."""
    centered = rows - rows.mean(axis=0)
    _, axes = np.linalg.eigh(centered.T @ centered)
    return axes.T[::-1][:count]
