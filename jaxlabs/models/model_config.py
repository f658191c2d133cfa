"""Settings that several models share."""

import dataclasses
from typing import Any, Self

from jaxlabs.config import ArgumentError, Config, setting, size
from jaxlabs.layers.matmul import PRECISIONS

AT_LEAST_1, SHARE = {"minimum": 1}, {"minimum": 0, "maximum": 0.99}
SHARED: dict[str, dict[str, Any]] = {
    "matmul_precision": {
        "help": "float32 (highest), the platform's own (default), bfloat16 with float32 sums"
        " (bfloat16)",
        "choices": PRECISIONS,
        "value_aliases": {"fast": "bfloat16"},
    },
    "embed_dim": AT_LEAST_1 | {"help": "embedding size", "maximum": 65_536, "aliases": ("width",)},
    "num_layers": AT_LEAST_1
    | {"help": "number of blocks", "maximum": 1000, "aliases": ("layers",)},
    "num_heads": AT_LEAST_1
    | {"help": "number of attention heads; divides `embed_dim`", "aliases": ("heads",)},
    "mlp_dim": AT_LEAST_1
    | {"help": "hidden size of the feed-forward network", "aliases": ("ffn_width",)},
    "dropout": SHARE
    | {"help": "dropout rate of embeddings, attention weights and sub-layer outputs"},
    "channels": AT_LEAST_1
    | {"help": "channels of the first convolution; the others have 2 and 3 times as many"},
    "max_translation": {
        "help": "maximum random translation of an image in training, in pixels per axis",
        "minimum": 0,
        "maximum": 1000,
        "aliases": ("shift",),
    },
}
"""Settings that several models have, by name; see `jaxlabs.config.setting`."""


def shared(name: str, default: Any, **changed: Any) -> Any:
    """Returns a setting of SHARED with a default of the model, and other entries `changed`."""
    return setting(default, **SHARED[name] | changed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(Config):
    """Precision of a model."""

    matmul_precision: str = shared("matmul_precision", "default")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenModelConfig(ModelConfig):
    """Precision and vocabulary size of a model of tokens."""

    vocab_size: int | None = size(
        None, "vocabulary size of the model; none: that of the data", aliases=("vocabulary_size",)
    )

    def with_vocabulary(self, data_size: int) -> Self:
        """Returns the config with a vocabulary of at least `data_size` tokens.

        Raises:
          UserError: the configured vocabulary is smaller than the data's.
        """
        size = data_size if self.vocab_size is None else self.vocab_size
        if size < data_size:
            found = f"{size} is too few for the data; at least {data_size}"
            raise ArgumentError("vocab_size", found)
        return dataclasses.replace(self, vocab_size=size)


def check_heads(embed_dim: int, num_heads: int, positions: str = "none") -> None:
    """Raises ArgumentError for a number of attention heads that the sizes do not allow."""
    head_dim, rest = divmod(embed_dim, num_heads)
    if rest:
        found = f"{num_heads} does not divide `embed_dim` {embed_dim}; a divisor"
        raise ArgumentError("num_heads", found)
    if positions == "rotary" and head_dim % 2:
        found = f"{num_heads} heads of {head_dim} are not accepted; rotary positions need an even"
        raise ArgumentError("num_heads", f"{found} head size")
