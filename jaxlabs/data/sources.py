"""Where data sets are looked for: a text file, tensorflow-datasets' prepared form, a download."""

import codecs
import hashlib
import os
import sys
import threading
import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxlabs import paths
from jaxlabs.config import UserError

# Seconds: how long an address may take to answer at all, and a running download to send more.
PATIENCE = 4

Record = dict[str, bytes | int | float]
"""One example as tensorflow-datasets stores it; an image is the bytes of its PNG file."""


class DownloadError(Exception):
    """A download that did not work; its message is a clause that says why."""


def default_data_dir() -> Path:
    """Returns $JAXLABS_DATA_DIR, or the user's cache folder where it is not set.

    Raises:
      UserError: there is neither, as in a container without a home directory.
    """
    if named := os.environ.get("JAXLABS_DATA_DIR"):
        return paths.local(named, "JAXLABS_DATA_DIR")
    return paths.local("~/.cache/jaxlabs", "--data_dir")


def data_home(data_dir: str | Path | None) -> Path:
    """Returns the folder of the data sets that `--data_dir` means."""
    return default_data_dir() if data_dir is None else paths.local(data_dir, "--data_dir")


def read_text_file(path: Path) -> str:
    """Returns a UTF-8 file's text: without a byte-order mark, line ends as they are.

    Raises:
      UserError: the file cannot be read, is not UTF-8 or holds nothing.
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


def prepared(name: str, data_dir: Path) -> Path | None:
    """Returns the folder of a data set prepared by tensorflow-datasets, the newest version of it.

    Only the array_record form counts: the older one, tfrecord, cannot be read without TensorFlow.
    """
    homes = [data_dir / "tfds", *paths.in_home("tensorflow_datasets")]
    if named := os.environ.get("TFDS_DATA_DIR"):
        homes.insert(1, paths.local(named, "TFDS_DATA_DIR"))
    for home in homes:
        for info in sorted(home.glob(f"{name}/*/dataset_info.json"))[::-1]:
            if info.is_file() and b'"array_record"' in info.read_bytes():
                return info.parent
    return None


def read_prepared(
    folder: Path, splits: tuple[str, ...], decode: Callable[[list[Record]], Any]
) -> Any:
    """Returns `decode` of all records of the splits, in order; TensorFlow is not needed.

    Only the record files are read. tensorflow-datasets itself would import whatever class the
    folder's features.json names, so that a folder from elsewhere could run code.

    Args:
      folder: as `prepared` finds it.
      splits: their names.
      decode: makes data of the records; any error that it raises means that they are damaged.

    Raises:
      UserError: the folder does not hold what tensorflow-datasets wrote there.
    """
    # Imported here: it takes a second, and most runs find a raw file.
    from array_record.python.array_record_module import ArrayRecordReader
    from tensorflow_datasets.proto import tf_example_pb2

    names = [f"{folder.parent.name}-{split}.array_record-*" for split in splits]
    shards = [path for name in names for path in sorted(folder.glob(name))]
    for path in shards:
        paths.require_file(path, "what tensorflow-datasets wrote is needed")
    try:
        examples = [
            tf_example_pb2.Example.FromString(record)
            for path in shards
            for record in ArrayRecordReader(str(path)).read_all()
        ]
        if not examples:
            raise ValueError(f"no records of {', '.join(splits)}")
        return decode([_record(example) for example in examples])
    # The readers' errors are of many kinds; all of them mean that the files are damaged.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"{folder}: cannot be read ({reason}); delete it or prepare it anew"
        ) from None


def _record(example: Any) -> Record:
    """Returns the first value of every entry of a `tf.train.Example`."""
    return {
        name: getattr(feature, feature.WhichOneof("kind")).value[0]
        for name, feature in example.features.feature.items()
    }


def download(address: str, sha256: str, path: Path) -> None:
    """Fetches a file; it appears under `path` whole and with the right hash, or not at all.

    Raises:
      DownloadError: there is no network, the address does not answer or sends something else, or
        the folder cannot be written. Without a network this takes at most `PATIENCE` seconds.
    """
    import pooch

    pooch.get_logger().setLevel("WARNING")
    _require_answer(address)
    fetch = pooch.HTTPDownloader(timeout=PATIENCE, progressbar=sys.stderr.isatty())
    try:
        pooch.retrieve(address, f"sha256:{sha256}", path.name, path.parent, downloader=fetch)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DownloadError(f"the download to {path} failed ({reason})") from None


def _require_answer(address: str) -> None:
    """Raises DownloadError unless the address answers soon.

    In a thread because a time-out of the request does not cover the look-up of the host's name, and
    counts anew for each of the host's addresses.
    """
    import pooch

    host = urllib.parse.urlsplit(address).hostname
    answers = []

    def ask() -> None:
        probe = pooch.HTTPDownloader(timeout=PATIENCE)
        try:
            answers.append(probe(address, None, None, check_only=True))
        except OSError:
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if not answers:
        raise DownloadError(f"{host} did not answer within {PATIENCE} seconds")
    if not answers[0]:
        raise DownloadError(f"{host} could not be reached or does not have it")
