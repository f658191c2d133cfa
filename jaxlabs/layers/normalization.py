"""Layer norm and RMS norm, with statistics in at least float32."""

import flax.linen as nn
from jax.typing import DTypeLike

NORMS = ("layernorm", "rmsnorm")
EPSILON = 1e-5


def build_norm(kind: str, use_bias: bool = True, dtype: DTypeLike | None = None) -> nn.Module:
    """Returns a module that normalizes `x [..., features]` over its last axis.

    "layernorm" (Ba et al. 2016) has `scale [features]` and, with `use_bias`, `bias [features]`;
    "rmsnorm" (Zhang and Sennrich 2019) has no parameters. The output is in `dtype`, see
    `jaxlabs.layers.dtypes`.

    Raises:
      ValueError: `kind` is not one of NORMS.
    """
    if kind not in NORMS:
        raise ValueError(f"norm: {kind!r} is not one of {', '.join(NORMS)}")
    if kind == "rmsnorm":
        return nn.RMSNorm(epsilon=EPSILON, use_scale=False, dtype=dtype)
    # The two-pass variance: E[x^2] - E[x]^2 cancels where the mean is large against the deviation.
    return nn.LayerNorm(epsilon=EPSILON, use_bias=use_bias, use_fast_variance=False, dtype=dtype)
