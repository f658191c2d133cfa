"""Which implementation of an operation runs: by platform, dtype and shape.

Those for CPUs are the other modules of this package. What each of them gains, on which shapes, is
in docs/guides/precision-and-speed.md. Elsewhere the library's own operations run.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

MIN_WINOGRAD_CHANNELS = 32
"""Input and output channels from which `winograd` is faster: with fewer, its transforms take longer
than the products that it saves."""

WINOGRAD_ROWS = 4
"""Output rows of one of Winograd's tiles; the last tile of an image may be partly padding."""

MIN_BLOCK_LOCAL, WINDOWS_PER_SEQUENCE = 128, 16
"""Length, and length in windows, from which block-local attention is faster than chunked."""

MIN_FLASH, MIN_FLASH_WINDOW = 2048, 256
"""Length, and window of sequences twice as long, from which flash attention is the fastest."""

MAX_DENSE_KEYS = 2048
"""Keys up to which accelerators keep all scores of a layer for the backward pass."""

TOKENS_PER_ROW = 2
"""Tokens of a device per row of an embedding table, from which projecting the table is faster."""

CPU_SCOPE = "cpu_implementation"
"""Name scope of the operations that only programs for CPUs have."""

CUDNN_DTYPES = (jnp.bfloat16, jnp.float16)
MAX_CUDNN_HEAD_DIM, CUDNN_HEAD_DIM_MULTIPLE = 128, 8
"""What cuDNN's fused attention accepts on GPUs of compute capability 8.0 and above."""


def by_platform(
    *operands: Any,
    cpu: Callable[..., Any],
    default: Callable[..., Any],
    cuda: Callable[..., Any] | None = None,
) -> Any:
    """Returns `cpu(*operands)`, on NVIDIA GPUs `cuda(*operands)`, else `default(*operands)`.

    The choice is made when the program is lowered: the compiled program holds one implementation.
    """
    if cpu is default and cuda is None:
        return cpu(*operands)
    others = {} if cuda is None else {"cuda": cuda}

    def on_cpu(*operands):
        with jax.named_scope(CPU_SCOPE):
            return cpu(*operands)

    return lax.platform_dependent(*operands, cpu=on_cpu, default=default, **others)


def projects_table(count: int, time: int, batch: int) -> bool:
    """Whether a recurrent layer on CPUs projects a table of `count` rows and not those of tokens.

    Each of the devices that split the batch projects the whole table.
    """
    return time * batch >= TOKENS_PER_ROW * count * math.gcd(batch, jax.device_count())


def barrier_on_cpu(x: jax.Array) -> jax.Array:
    """Returns `x`, on CPUs behind a barrier: XLA does not fuse it with its consumers."""
    return by_platform(x, cpu=lax.optimization_barrier, default=_identity)


def _identity(x: jax.Array) -> jax.Array:
    return x


def conv3x3_implementation(
    image: tuple[int, ...], kernel: tuple[int, ...], dtype: DTypeLike, precision: str
) -> str:
    """Returns the implementation of a 3x3 convolution on CPUs: "matmuls" or "winograd".

    The shapes are those of the images, (batch, height, width, in), and of the kernel, (3, 3, in,
    out); the dtype is that of both.
    """
    fewer_products = 2 * -(-image[1] // WINOGRAD_ROWS) < image[1]
    wide = min(kernel[2:]) >= MIN_WINOGRAD_CHANNELS
    exact = precision != "bfloat16" and jnp.finfo(dtype).bits >= 32
    return "winograd" if exact and wide and fewer_products else "matmuls"


def attention_implementation(
    platform: str,
    *,
    dtype: DTypeLike,
    time: int,
    head_dim: int,
    window: int | None,
    causal: bool,
    plain: bool,
) -> str:
    """Returns the implementation of causal or local attention, see `masked_attention`.

    "cudnn": fused. "dense": all scores at once. "chunked": the scores that a chunk of queries may
    see. "remat": likewise, recomputed in the backward pass. "block_local": blocks as long as the
    window. "flash": blocks with an online softmax, without forward-mode differentiation.

    The platform is "cpu", "cuda" or "default"; dtype, length `time` and `head_dim` are those of
    queries, keys and values. `plain` is whether there are neither padding nor segments, no bias and
    no dropout of the attention weights: cuDNN has no dropout by example, and a bias or a mask of
    padding or segments would be materialized.
    """
    cudnn_size = head_dim <= MAX_CUDNN_HEAD_DIM and head_dim % CUDNN_HEAD_DIM_MULTIPLE == 0
    if platform == "cuda" and plain and causal and cudnn_size and dtype in CUDNN_DTYPES:
        return "cudnn"
    if platform != "cpu" and time <= MAX_DENSE_KEYS:
        return "dense"
    wide = window is None or (window >= MIN_FLASH_WINDOW and time >= 2 * MIN_FLASH)
    if platform == "cpu" and plain and causal and wide and time >= MIN_FLASH:
        return "flash"
    if prefer_block_local(window, time):
        return "block_local"
    return "chunked" if platform == "cpu" else "remat"


def prefer_block_local(window: int | None, time: int) -> bool:
    """Whether block-local attention is faster than chunked attention for sequences of `time`."""
    return window is not None and time >= max(MIN_BLOCK_LOCAL, WINDOWS_PER_SEQUENCE * window)


def has_cudnn_attention() -> bool:
    """Whether the default device is an NVIDIA GPU for which cuDNN has a fused attention."""
    device = jax.devices()[0]
    if not device.device_kind.startswith("NVIDIA"):
        return False
    return tuple(map(int, device.compute_capability.split("."))) >= (8, 0)
