"""Labels of parameters, which decide how each is updated and whether it is decayed."""

import re
from collections.abc import Sequence
from typing import Any

import jax

from jaxlabs.config import ArgumentError

HIDDEN, EMBEDDING, HEAD, VECTOR = "hidden", "embedding", "head", "vector"
"""Labels of parameters.

hidden: kernels of hidden layers, which Muon orthogonalizes; embedding: tables with one row per
token, position, class or hash; head: kernels of the first and last layer; vector: biases, scales
and depthwise kernels, which are not decayed.
"""

DECAYED = (HIDDEN, EMBEDDING, HEAD)
"""Labels of the parameters that are decayed; Muon decays those that it orthogonalizes."""

PARAM_LABELS = (
    (r"(bias|scale)$", VECTOR),
    # Depthwise: one filter per channel. The kernel [width, 1, channels] has the shape of a grouped
    # convolution in checkpoints, but is no matrix.
    (r"convolution\.kernel$", VECTOR),
    (r"(embedding|table)$", EMBEDDING),
    (r"(^|\.)(input|output|head)\.kernel$", HEAD),
    (r"kernel$", HIDDEN),
)
"""The label of a parameter is that of the first pattern found in its dotted path."""


def label_params(params: Any, patterns: Sequence[tuple[str, str]] = PARAM_LABELS) -> Any:
    """Returns a tree with the label of every parameter.

    Args:
      params: tree of parameters.
      patterns: (regular expression, label), see `PARAM_LABELS`.

    Raises:
      ArgumentError: a path matches no pattern.

    Example:
      >>> from jaxlabs.training.param_labels import label_params
      >>> label_params({"encoder": {"embedding": {"embedding": 0}, "hidden": {"kernel": 0}}})
      {'encoder': {'embedding': {'embedding': 'embedding'}, 'hidden': {'kernel': 'hidden'}}}
    """

    def label(path: Any, _: Any) -> str:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        for pattern, found in patterns:
            if re.search(pattern, name):
                return found
        accepted = ", ".join(pattern for pattern, _ in patterns)
        message = f"{name!r} matches none of {accepted}; give the task its own Task.label_fn"
        raise ArgumentError("params", message)

    return jax.tree_util.tree_map_with_path(label, params)
