"""Patches of whitened photographs as data for a sparse autoencoder."""

import numpy as np

from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.natural_images import (
    Photographs,
    normalize_patches,
    random_patches,
    whiten_images,
)


def patch_data(photographs: Photographs, count: int, size: int, seed: int) -> DataModule:
    """Returns `count` random training patches and as many other patches of the same images.

    Both sets are whitened and scaled to [0.1, 0.9] as in Ng's exercise, see `natural_images`. The
    monitored split is the training patches, as in the write-ups. `other_patches` were not trained
    on but overlap with training patches, since there are more patches than disjoint positions.

    Args:
      photographs: the images.
      count: number of patches in each set.
      size: side of a patch, in pixels.
      seed: seed of the positions.
    """
    images = whiten_images(photographs)
    train, other = (_examples(images, count, size, key) for key in ((seed, 0), (seed, 1)))
    return DataModule(
        train=train,
        eval_sets={"training_patches": train, "other_patches": other},
        dataset=photographs.describe() | {"patches": count},
        comparable=photographs.comparable,
        warning=photographs.warning,
    )


def _examples(images: np.ndarray, count: int, size: int, seed: tuple[int, int]) -> Examples:
    patches = normalize_patches(random_patches(images, count, size, seed))
    return Examples({"patches": patches.reshape(count, -1).astype(np.float32)})
