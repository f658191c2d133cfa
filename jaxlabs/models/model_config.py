"""Settings that several models share."""

import dataclasses
from typing import Any, Self

import jax.numpy as jnp
from jax.typing import DTypeLike

from jaxlabs.config import ArgumentError, Config, positive, runtime, setting
from jaxlabs.layers.dtypes import output_precision
from jaxlabs.layers.matmul import PRECISIONS
from jaxlabs.layers.remat import REMAT


def remat_setting() -> Any:
    """Declares `remat`, one of `layers.remat.REMAT`."""
    return runtime(
        "none",
        "what the backward pass recomputes to save memory: all of a block but its matmuls and"
        " convolutions (blocks), all of a block (full); results change by rounding at most",
        choices=REMAT,
    )


COMPUTE_DTYPES = ("auto", "float32", "bfloat16")


def matmul_precision_setting(default: str) -> Any:
    """Declares `matmul_precision`, one of PRECISIONS."""
    return setting(
        default,
        "float32 (highest), the platform's own (default), bfloat16 inputs with float32 accumulation"
        " (bfloat16)",
        choices=PRECISIONS,
        value_aliases={"fast": "bfloat16"},
    )


def embed_dim_setting(default: int, help: str = "embedding size") -> Any:
    """Declares `embed_dim`."""
    return positive(default, help, maximum=65_536, aliases=("width",))


def num_layers_setting(default: int | None, help: str = "number of blocks") -> Any:
    """Declares `num_layers`."""
    return positive(default, help, maximum=1000, aliases=("layers",))


def num_heads_setting(default: int) -> Any:
    """Declares `num_heads`; see `check_heads`."""
    help = "number of attention heads; divides `embed_dim`"
    return positive(default, help, aliases=("heads",))


def mlp_dim_setting(default: int) -> Any:
    """Declares `mlp_dim`."""
    help = "hidden size of the feed-forward network"
    return positive(default, help, aliases=("ffn_width",))


def dropout_setting(
    default: float,
    help: str = "dropout rate of embeddings, attention weights and sub-layer outputs",
    aliases: tuple[str, ...] = (),
) -> Any:
    """Declares a dropout rate, in [0, 0.99]."""
    return setting(default, help, minimum=0, maximum=0.99, aliases=aliases)


def channels_setting(default: int) -> Any:
    """Declares the `channels` of `image_classifier.build_convolutions`."""
    help = "channels of the first convolution; the others have 2 and 3 times as many"
    return positive(default, help)


def max_translation_setting(default: int) -> Any:
    """Declares the `max_translation` of `image_classifier.random_translate`, in pixels."""
    help = "maximum random translation of an image in training, in pixels per axis"
    return setting(default, help, minimum=0, maximum=1000, aliases=("shift",))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig(Config):
    """Precision of a model."""

    matmul_precision: str = matmul_precision_setting("default")
    compute_dtype: str = setting(
        "auto",
        "dtype of activations; auto: bfloat16 on TPUs and on GPUs of compute capability 8 and above"
        " unless `matmul_precision` is highest, else float32",
        choices=COMPUTE_DTYPES,
    )

    @property
    def dtype(self) -> DTypeLike | None:
        """`dtype` of the layers, see `jaxlabs.layers.dtypes`; `auto` is resolved by the run."""
        return jnp.bfloat16 if self.compute_dtype == "bfloat16" else None

    @property
    def output_precision(self) -> str:
        """Matmul precision of the layers whose result stays float32, such as logits."""
        return output_precision(self.matmul_precision, self.dtype)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TokenModelConfig(ModelConfig):
    """Precision and vocabulary size of a model of tokens."""

    vocab_size: int | None = positive(
        None, "vocabulary size of the model; none: that of the data", aliases=("vocabulary_size",)
    )

    def with_vocabulary(self, data_size: int) -> Self:
        """Returns the config with a vocabulary of at least `data_size` tokens.

        Raises:
          UserError: the configured vocabulary is smaller than the data's.
        """
        vocab_size = data_size if self.vocab_size is None else self.vocab_size
        if vocab_size < data_size:
            raise ArgumentError(
                "vocab_size", f"{vocab_size} is too few for the data; at least {data_size}"
            )
        return dataclasses.replace(self, vocab_size=vocab_size)


def check_heads(embed_dim: int, num_heads: int, positions: str = "none") -> None:
    """Raises ArgumentError for a number of attention heads that the sizes do not allow."""
    head_dim, rest = divmod(embed_dim, num_heads)
    if rest:
        raise ArgumentError(
            "num_heads", f"{num_heads} does not divide `embed_dim` {embed_dim}; a divisor"
        )
    if positions == "rotary" and head_dim % 2:
        raise ArgumentError(
            "num_heads",
            f"{num_heads} heads of {head_dim} are not accepted; rotary positions need an even head"
            " size",
        )
