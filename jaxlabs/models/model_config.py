"""Settings that many models share."""

import dataclasses
from typing import Self

from jaxlabs.config import ArgumentError, Config, setting
from jaxlabs.layers.matmul import PRECISIONS


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(Config):
    """Precision of a model."""

    matmul_precision: str = setting(
        "default",
        "float32 (highest), the platform's own (default), bfloat16 with float32 sums (bfloat16)",
        choices=PRECISIONS,
        value_aliases={"fast": "bfloat16"},
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenModelConfig(ModelConfig):
    """Precision and vocabulary size of a model of tokens."""

    vocab_size: int | None = setting(
        None,
        "vocabulary size of the model; none: that of the data",
        minimum=1,
        aliases=("vocabulary_size",),
    )

    def with_vocabulary(self, data_size: int) -> Self:
        """Returns the config with a vocabulary of at least `data_size` tokens.

        Raises:
          UserError: the configured vocabulary is smaller than the data's.
        """
        size = data_size if self.vocab_size is None else self.vocab_size
        if size < data_size:
            raise ArgumentError(
                "vocab_size", f"{size} is too few for the data; at least {data_size}"
            )
        return dataclasses.replace(self, vocab_size=size)


def check_heads(embed_dim: int, num_heads: int, positions: str = "none") -> None:
    """Raises ArgumentError for a number of attention heads that the sizes do not allow."""
    if embed_dim % num_heads:
        raise ArgumentError(
            "num_heads", f"{num_heads} does not divide `embed_dim` {embed_dim}; a divisor"
        )
    head_dim = embed_dim // num_heads
    if positions == "rotary" and head_dim % 2:
        raise ArgumentError(
            "num_heads",
            f"{num_heads} heads of {head_dim} are not accepted; rotary positions need an even head"
            " size",
        )
