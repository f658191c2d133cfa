"""Parameters as one safetensors file, which numpy, PyTorch and everything else can read."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from jaxlabs.config import UserError
from jaxlabs.run_folder import RunFolder


def export_safetensors(params: Any, path: str | os.PathLike, metadata: Mapping[str, Any]) -> None:
    """Writes a parameter tree, or leaves what was at `path` as it was.

    Names are the tree's paths joined with dots (`blocks_0.attention.query_kernel`), values are in
    C order and float32. The file's header holds every entry of `metadata` as JSON text.

    Args:
      params: nested dictionaries of arrays.
      path: of the file.
      metadata: what a reader needs beside the numbers: settings, vocabulary.

    Raises:
      UserError: the file cannot be written.
    """
    # The format stores bytes without strides: an array in another order would come back scrambled.
    arrays = {
        name: np.asarray(leaf, np.float32, order="C")
        for name, leaf in flatten_dict(params, sep=".").items()
    }
    header = {name: json.dumps(value) for name, value in metadata.items()}
    path = Path(path)
    RunFolder(path.parent).write_bytes(path, safetensors.numpy.save(arrays, header))


def load_safetensors(path: str | os.PathLike) -> tuple[dict[str, Any], dict[str, Any]]:
    """Reads what `export_safetensors` wrote: the nested parameter tree of numpy arrays, metadata.

    Raises:
      UserError: there is no such file, or it is not a whole safetensors file.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = file.keys()
            arrays = {name: file.get_tensor(name) for name in names}
            header = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error
        raise UserError(f"{path}: {reason}; a file of --mode=export is needed") from None
    return unflatten_dict(arrays, sep="."), {k: json.loads(v) for k, v in header.items()}
