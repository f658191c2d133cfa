"""Dropout with one key per example: masks do not depend on how a batch is split."""

import math
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

LEVELS = 1 << 16


def dropout(x: jax.Array, rate: float, keys: jax.Array) -> jax.Array:
    """Zeroes elements with probability `rate` and divides the others by `1 - rate`.

    Example i of the result depends on `x[i]` and `keys[i]` alone (Srivastava et al. 2014, scaled in
    training). The rate is rounded to a multiple of 1/65,536: one 32-bit random word serves two
    elements, which halves the cost of the masks. The scale uses the rounded rate, so that the mean
    is preserved. `x` is `[batch, ...]`, `keys [batch]` are typed, `rate` is in [0, 1).
    """
    kept = max(LEVELS - round(rate * LEVELS), 1)
    size = math.prod(x.shape[1:])
    words = jax.vmap(lambda key: jax.random.bits(key, (-(-size // 2),), jnp.uint32))(keys)
    levels = lax.bitcast_convert_type(words, jnp.uint16).reshape(x.shape[0], -1)
    keep = levels[:, :size].reshape(x.shape) <= kept - 1
    return jnp.where(keep, x * (LEVELS / kept), 0)


class Dropout(nn.Module):
    """`dropout` with its own keys: the caller's, folded with a hash of this module's path.

    Not `nn.Dropout`, whose one key for a batch ties an example's mask to the rest of the batch.
    """

    rate: float

    def __call__(
        self,
        x: jax.Array,
        keys: jax.Array | None,
        chunk: int = 0,
        subchunk: jax.Array | None = None,
    ) -> jax.Array:
        """Drops elements of `x [batch, ...]` by `keys [batch]`; None leaves `x` as it is.

        Where an array is processed in chunks, each chunk has an index and its own masks, and so has
        each subchunk in which a loop processes a chunk: `subchunk []`.
        """
        if keys is None or self.rate == 0:
            return x
        path = self.path + ((str(chunk),) if chunk else ())
        salt = zlib.crc32("/".join(path).encode())
        for data in (salt,) if subchunk is None else (salt, subchunk):
            keys = jax.vmap(jax.random.fold_in, (0, None))(keys, data)
        return dropout(x, self.rate, keys)
