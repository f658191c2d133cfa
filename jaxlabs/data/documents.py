"""Documents of a text: attention does not cross them with `--documents=separate`.

A batch then has `segments [batch, time]` int32, the number of the document of each input token, and
the weight of a target that begins a document is 0: nothing of that document precedes it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

DOCUMENTS = ("joined", "separate")
"""Values of `--documents`."""


def segments(starts: Any, position: Any) -> Any:
    """Returns the number of the document of each token, int32, counted from 1.

    Args:
      starts: [documents], the position of the first token of each document, ascending.
      position: positions of tokens, [...]; of numpy or of JAX, as the result.
    """
    library = jnp if isinstance(position, jax.Array) else np
    return library.searchsorted(starts, position, side="right").astype(np.int32)


def separate(windows: dict[str, Any], segment: Any) -> dict[str, Any]:
    """Returns windows whose documents are separate.

    Args:
      windows: `weights [batch, time]` and other arrays by name.
      segment: [batch, time + 1], the document of each input token and of the last target.
    """
    same = (segment[:, 1:] == segment[:, :-1]).astype(np.float32)
    return windows | {"weights": windows["weights"] * same, "segments": segment[:, :-1]}
