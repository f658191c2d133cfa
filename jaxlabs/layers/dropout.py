"""The one dropout: every example has its own key, so that no split of a batch changes its masks."""

import math
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

LEVELS = 1 << 16


def dropout(x: jax.Array, rate: float, keys: jax.Array) -> jax.Array:
    """Zeroes elements with probability `rate` and divides the others by the share that is kept.

    Example i of the result depends on `x[i]` and `keys[i]` alone (Srivastava et al. 2014, scaled in
    training). The rate is held to 1/65,536: one 32-bit random word decides two elements, which
    halves the cost of the masks, and the share kept is exact, so that the mean is kept too.

    Args:
      x: [batch, ...].
      rate: in [0, 1).
      keys: [batch] typed PRNG keys.
    """
    kept = LEVELS - round(rate * LEVELS)
    size = math.prod(x.shape[1:])
    words = jax.vmap(lambda key: jax.random.bits(key, (-(-size // 2),), jnp.uint32))(keys)
    levels = lax.bitcast_convert_type(words, jnp.uint16).reshape(x.shape[0], -1)
    keep = levels[:, :size].reshape(x.shape) <= kept - 1
    return jnp.where(keep, x * (LEVELS / kept), 0)


class Dropout(nn.Module):
    """Dropout whose keys are its own: the caller's, folded with a hash of this module's path.

    Attributes:
      rate: probability of zero, in [0, 1).
    """

    rate: float

    def __call__(
        self,
        x: jax.Array,
        keys: jax.Array | None,
        part: int = 0,
        group: jax.Array | None = None,
    ) -> jax.Array:
        """Drops elements of `x [batch, ...]` by `keys [batch]`; None leaves `x` as it is.

        Where one array is dropped in parts, each has a number and masks of its own, and so have the
        groups in which a loop computes a part: `group []`.
        """
        if keys is None or self.rate == 0:
            return x
        path = self.path + ((str(part),) if part else ())
        salt = zlib.crc32("/".join(path).encode())
        for number in (salt,) if group is None else (salt, group):
            keys = jax.vmap(jax.random.fold_in, (0, None))(keys, number)
        return dropout(x, self.rate, keys)
