"""Texts in array_record files: a record is a document.

A record is UTF-8 text, or, beside a `dataset_info.json`, an example of tensorflow-datasets with the
text in one of its features. Neither TensorFlow nor a class that the folder names is imported.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxlabs import paths
from jaxlabs.config import ArgumentError, UserError
from jaxlabs.data import sources

AT_ONCE = 256
"""Records that are read at once."""

NEEDED = "an array_record file of texts is needed"
TFDS_INFO = "dataset_info.json"


def is_record_file(path: Path) -> bool:
    """Returns whether the name is that of an array_record file, such as a shard of several."""
    return path.suffix == ".array_record" or path.suffix.startswith(".array_record-")


def of_tfds(files: Sequence[Path]) -> list[Path]:
    """Returns the record files of a data set of tensorflow-datasets, the training split first."""
    records = [path for path in files if is_record_file(path)]
    return sorted(records, key=lambda path: ("-train." not in path.name, path.as_posix()))


def texts(path: Path, text_key: str) -> Iterator[str]:
    """Yields the text of every record.

    Args:
      path: the file.
      text_key: feature with the text in an example of tensorflow-datasets.

    Raises:
      UserError: the file is damaged; a record is not UTF-8 or has no such feature.
    """
    paths.require_file(path, NEEDED)
    if importlib.util.find_spec("array_record") is None:
        raise UserError(f"{path}: array_record is not installed; Windows has none")
    from array_record.python.array_record_module import ArrayRecordReader

    is_example = (path.parent / TFDS_INFO).exists()
    reader = ArrayRecordReader(str(path))
    if not reader.ok():
        raise UserError(f"{path}: truncated, or no array_record file; {NEEDED}")
    count = reader.num_records()
    for start in range(0, count, AT_ONCE):
        try:
            records = reader.read(start, min(start + AT_ONCE, count))
        except Exception as error:  # of many types
            raise sources.unreadable(path, error, NEEDED) from None
        for number, record in enumerate(records, start + 1):
            location = f"{path}, record {number:,}"
            yield _decoded(_feature(record, text_key, location) if is_example else record, location)


def _feature(record: bytes, text_key: str, location: str) -> bytes:
    from tensorflow_datasets.proto import tf_example_pb2

    try:
        example: Any = tf_example_pb2.Example.FromString(record)
    except Exception as error:
        raise UserError(f"{location}: not an example of tensorflow-datasets ({error})") from None
    features = example.features.feature
    values = features[text_key].bytes_list.value if text_key in features else ()
    if len(values) != 1:
        names = ", ".join(map(repr, sorted(features))) or "none"
        raise ArgumentError("text_key", f"no text below {text_key!r} in {location}; found {names}")
    return values[0]


def _decoded(text: bytes, location: str) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        found = f"byte 0x{text[error.start]:02x}"
        raise UserError(f"{location}: not UTF-8 ({found}); {NEEDED}") from None
