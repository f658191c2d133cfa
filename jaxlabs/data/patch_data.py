"""Patches of whitened photographs as data for a sparse autoencoder."""

import numpy as np

from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import Data
from jaxlabs.data.natural_images import Photographs, normalized, random_patches, whitened


def patch_data(photographs: Photographs, count: int, size: int, seed: int) -> Data:
    """Returns `count` random patches to train on, and as many others of the same pictures.

    Both are whitened and brought to [0.1, 0.9] as in Ng's exercise, see `natural_images`. The first
    split is what the write-ups measure on, the training patches; `other_patches` were not trained
    on, but may overlap with some that were, as there are more patches than places without overlap.

    Args:
      photographs: the pictures.
      count: patches in each of the two sets.
      size: side of a patch, in pixels.
      seed: draws the places.
    """
    images = whitened(photographs)
    train, other = (_examples(images, count, size, draw) for draw in ((seed, 0), (seed, 1)))
    return Data(
        train=train,
        evaluations={"training_patches": train, "other_patches": other},
        final_eval_sets=dict,
        dataset=photographs.describe() | {"patches": count},
        comparable=photographs.comparable,
        vocabulary={},
        baselines=dict,
        notice=photographs.notice,
    )


def _examples(images: np.ndarray, count: int, size: int, seed: tuple[int, int]) -> Examples:
    patches = normalized(random_patches(images, count, size, seed))
    return Examples({"patches": patches.reshape(count, -1).astype(np.float32)})
