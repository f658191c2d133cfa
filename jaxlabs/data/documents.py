"""Documents of a text: attention does not cross them with `--documents=separate`.

A batch then has `segments [batch, time]` int32, the number of the document of each input token, and
the weight of a target that begins a document is 0: nothing of that document precedes it.
"""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.config import ArgumentError
from jaxlabs.data.tokenizer_base import Tokenizer

DOCUMENTS = ("joined", "separate")
"""Values of `--documents`."""

HELP = (
    "documents of the text: one after the other, as if they were one (joined); or packed with"
    " document masking, so that attention and convolutions do not cross them (separate). A"
    " document is a file of a folder, a line of JSON lines, or a record"
)


def require_several(count: int) -> None:
    """Raises ArgumentError for separate documents of a text that is a single one."""
    if count < 2:
        accepted = "a folder of texts, or JSON lines, but no token shards"
        message = f"'separate' is not accepted with one document; {accepted}"
        raise ArgumentError("documents", message)


def encode(tokenizer: Tokenizer, text: str, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the tokens of a text, each document encoded on its own, and the documents in them.

    Args:
      tokenizer: the tokenizer.
      text: a text.
      starts: [documents], the first character of each document, ascending.

    Returns:
      Tokens `[length]`, and the first token of each document `[documents]`. The text before the
      first document is one.
    """
    bounds = [*np.unique([0, *starts]).tolist(), len(text)]
    encoded = tokenizer.encode_batch([text[i:j] for i, j in itertools.pairwise(bounds)])
    lengths = [len(tokens) for tokens in encoded]
    return np.concatenate(encoded), np.cumsum([0, *lengths[:-1]])


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
    same = (segment[:, 1:] == segment[:, :-1]).astype(np.int32)
    library = jnp if isinstance(segment, jax.Array) else np
    # By a table: from a comparison XLA would derive a select, whose gradients have other bits than
    # those with the same weights from the host.
    weights = library.asarray([0, 1], np.float32)[same]
    return windows | {"weights": windows["weights"] * weights, "segments": segment[:, :-1]}
