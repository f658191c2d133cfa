"""Export of the parameters as one safetensors file, readable by numpy, PyTorch and others."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict

from jaxlabs.config import UserError
from jaxlabs.run_folder import RunFolder


def export_safetensors(params: Any, path: str | os.PathLike, metadata: Mapping[str, Any]) -> None:
    """Writes a parameter tree atomically.

    Names are the tree's paths joined with dots (`blocks_0.attention.query_kernel`), values are in
    C order and float32. The file's header holds every entry of `metadata` as JSON text.

    Args:
      params: nested dictionaries of arrays.
      path: path of the file.
      metadata: JSON for the header: settings, data spec, step.

    Raises:
      UserError: the file cannot be written.
    """
    # The format stores no strides: an array that is not in C order would be read back scrambled.
    arrays = {
        name: np.asarray(leaf, np.float32, order="C")
        for name, leaf in flatten_dict(params, sep=".").items()
    }
    header = {name: json.dumps(value) for name, value in metadata.items()}
    path = Path(path)
    RunFolder(path.parent).write_bytes(path, safetensors.numpy.save(arrays, header))


def read_safetensors(
    path: str | os.PathLike,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns (arrays by name, header) of any safetensors file, such as one of Hugging Face.

    Raises:
      UserError: the file is missing, or is not a valid safetensors file.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = file.keys()
            arrays = {name: file.get_tensor(name) for name in names}
            header = file.metadata() or {}
    except (OSError, safetensors.SafetensorError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error
        raise UserError(f"{path}: {reason}; a file of --mode=export is needed") from None
    return arrays, header
