"""Vectors for runs of tokens: what a table of pairs and triples knows need not be computed."""

import flax.linen as nn
import jax
import jax.numpy as jnp

ROWS = 16_381
"""Most rows of a table, a prime: tiny Shakespeare has 1,403 pairs and 11,556 triples."""


class NgramEmbedding(nn.Module):
    """Sums a vector for every run of 2 to `longest` tokens that ends at a position.

    A table has a row for every possible run or, if these are more than ROWS, shares its rows by
    hashing (Svenstrup et al. 2017; Huang et al. 2025 use such tables at the input of a
    Transformer). Vectors start at zero, so that the model starts as it would without them.

    Attributes:
      vocabulary_size: tokens are below it.
      width: size of a vector.
      longest: tokens of the longest run, at least 2.
    """

    vocabulary_size: int
    width: int
    longest: int

    @nn.compact
    def __call__(self, tokens: jax.Array, before: jax.Array) -> jax.Array:
        """Returns `[batch, time, width]`.

        Args:
          tokens: [batch, time].
          before: [batch, longest - 1] the tokens before these, `vocabulary_size` where there are
            none.
        """
        symbols, time = self.vocabulary_size + 1, tokens.shape[1]
        text = jnp.concatenate([before, tokens], axis=1)
        vectors = jnp.zeros((*tokens.shape, self.width), jnp.float32)
        for length in range(2, self.longest + 1):
            rows = min(symbols**length, ROWS)
            row = jnp.zeros_like(tokens)
            for back in reversed(range(length)):
                first = self.longest - 1 - back
                row = (row * symbols + text[:, first : first + time]) % rows
            table = nn.Embed(
                rows,
                self.width,
                embedding_init=nn.initializers.zeros_init(),
                name=f"runs_of_{length}",
            )
            vectors = vectors + table(row)
        return vectors
