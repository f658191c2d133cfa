"""Sources of data sets: local files, tensorflow-datasets and downloads."""

import codecs
import hashlib
import importlib.util
import os
import re
import sys
import threading
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jaxlabs import paths
from jaxlabs.config import ArgumentError, UserError, nearest

TIMEOUT_S = 4
"""Seconds until the first response of a server, and between the parts of a download."""

Record = dict[str, bytes | int | float]
"""One example as tensorflow-datasets stores it; an image is the bytes of its PNG file."""


class DownloadError(Exception):
    """A failed download; the message is a clause with the reason."""


def default_data_dir() -> Path:
    """Returns $JAXLABS_DATA_DIR, or the user's cache folder where it is not set.

    Raises:
      UserError: neither exists, as in a container without a home directory.
    """
    if named := os.environ.get("JAXLABS_DATA_DIR"):
        return paths.local(named, "JAXLABS_DATA_DIR")
    return paths.local("~/.cache/jaxlabs", "data_dir")


def data_home(data_dir: str | Path | None) -> Path:
    """Returns the data folder for a value of `data_dir`."""
    return default_data_dir() if data_dir is None else paths.local(data_dir, "data_dir")


def unknown(found: str, name: str, names: Sequence[str], path: str) -> ArgumentError:
    """Returns the error about an unknown data set: what is `found` and which are accepted.

    It suggests the nearest to `name` of the accepted names; `path` is what else is accepted.
    """
    accepted = f"{', '.join(names)} or the path to {path}"
    return ArgumentError("dataset", f"{found}; accepted are {accepted}{nearest(name, names)}")


def unreadable(path: Path, error: Exception, needed: str) -> UserError:
    """Returns the error about a file that a library cannot read; `needed` is its last clause."""
    return UserError(f"{path}: cannot be read ({_reason(error)}); {needed}")


def require_sha256(path: Path, found: str, published: str, name: str, own: str) -> None:
    """Raises UserError unless the hash `found` of a file of the data set `name` is `published`.

    The message says to pass `own` instead.
    """
    if found != published:
        raise UserError(
            f"{path}: not the published {name} (its sha256 is {found[:12]}..., {published[:12]}..."
            f" is accepted); remove it, or pass your own {own} path"
        )


def read_text_file(path: Path) -> str:
    """Returns the text of a UTF-8 file without a byte-order mark; line ends are kept.

    Raises:
      UserError: the file is unreadable, not UTF-8 or empty.
    """
    data = paths.read_bytes(path, "a UTF-8 text file is needed")
    body = data.removeprefix(codecs.BOM_UTF8)
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        offset = error.start + len(data) - len(body)
        raise UserError(
            f"{path}: not UTF-8 (byte 0x{data[offset]:02x} at offset {offset:,}); "
            "save it as UTF-8 text"
        ) from None
    if not text:
        raise UserError(f"{path}: the file is empty; a UTF-8 text file is needed")
    return text


def text_sha256(text: str) -> str:
    """Returns the sha256 of a text's UTF-8 bytes, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def find_tfds(name: str, data_dir: Path) -> Path | None:
    """Returns the folder of the newest version of a data set prepared by tensorflow-datasets.

    Only the array_record format is accepted: tfrecord needs TensorFlow. None on Windows, where
    array_record is not available.
    """
    if importlib.util.find_spec("array_record") is None:
        return None
    homes = [data_dir / "tfds", *paths.in_home("tensorflow_datasets")]
    if named := os.environ.get("TFDS_DATA_DIR"):
        homes.insert(1, paths.local(named, "TFDS_DATA_DIR"))
    for home in homes:
        found = home.glob(f"{name}/*/dataset_info.json")
        for info in sorted(found, key=_version, reverse=True):
            if info.is_file() and b'"array_record"' in info.read_bytes():
                return info.parent
    return None


def _version(info: Path) -> list[int]:
    """Returns the numbers of the version of a prepared data set, such as [3, 0, 1]."""
    return [int(number) for number in re.findall(r"\d+", info.parent.name)]


def read_tfds(folder: Path, splits: tuple[str, ...], decode: Callable[[list[Record]], Any]) -> Any:
    """Returns `decode` of all records of some splits, in order, without TensorFlow.

    Only the record files are read. tensorflow-datasets itself imports the class that features.json
    names, so that an untrusted folder could run code.

    Raises:
      UserError: the folder is damaged, as any exception of `decode` means.
    """
    # A local import: it takes a second, and most runs find a raw file.
    from array_record.python.array_record_module import ArrayRecordReader
    from tensorflow_datasets.proto import tf_example_pb2

    names = [f"{folder.parent.name}-{split}.array_record-*" for split in splits]
    shards = [path for name in names for path in sorted(folder.glob(name))]
    for path in shards:
        paths.require_file(path, "a file of tensorflow-datasets is needed")
    try:
        examples = [
            tf_example_pb2.Example.FromString(record)
            for path in shards
            for record in ArrayRecordReader(str(path)).read_all()
        ]
        if not examples:
            raise ValueError(f"no records of {', '.join(splits)}")
        return decode([_record(example) for example in examples])
    # The readers raise errors of many types; all of them mean that the files are damaged.
    except Exception as error:
        raise unreadable(folder, error, "delete it or prepare it again") from None


def _record(example: Any) -> Record:
    """Returns the first value of every feature of a `tf.train.Example`."""
    return {
        name: getattr(feature, feature.WhichOneof("kind")).value[0]
        for name, feature in example.features.feature.items()
    }


def download(url: str, sha256: str, path: Path) -> None:
    """Downloads a file to `path` atomically and checks its hash.

    Raises:
      DownloadError: no network, no response, wrong content or a folder without write permission.
        Without a network this takes at most `TIMEOUT_S` seconds.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    _require_response(url)
    fetch = pooch.HTTPDownloader(timeout=TIMEOUT_S, progressbar=sys.stderr.isatty())
    try:
        pooch.retrieve(url, f"sha256:{sha256}", path.name, path.parent, downloader=fetch)
    except (OSError, ValueError) as error:
        raise DownloadError(f"the download to {path} failed ({_reason(error)})") from None


def _reason(error: Exception) -> str:
    """Returns the message of a library's error as one short line."""
    return " ".join(str(error).split())[:200]


def _require_response(url: str) -> None:
    """Raises DownloadError unless the server responds within `TIMEOUT_S` seconds.

    The request runs in a thread, since its timeout does not cover the DNS lookup and restarts for
    each IP address of the host.
    """
    import pooch

    host = urllib.parse.urlsplit(url).hostname
    responses = []

    def request() -> None:
        probe = pooch.HTTPDownloader(timeout=TIMEOUT_S)
        try:
            responses.append(probe(url, None, None, check_only=True))
        except OSError:
            responses.append(False)

    thread = threading.Thread(target=request, daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    if not responses:
        raise DownloadError(f"{host} did not answer within {TIMEOUT_S} seconds")
    if not responses[0]:
        raise DownloadError(f"{host} could not be reached or does not have it")
