"""Paths that a user gives: on this machine, with `~` replaced, and of files that have an end."""

import os
import re
import stat
from pathlib import Path

from jaxlabs.config import UserError

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def local(path: str | os.PathLike, name: str) -> Path:
    """Returns a path of this machine, in which a leading `~` or `~user` is replaced.

    Args:
      path: as it was given.
      name: of the flag or variable that it was given by, for the error.

    Raises:
      UserError: it is a URL, it is not text in UTF-8, or the home directory is unknown.
    """
    text = os.fspath(path)
    if SCHEME.match(text):
        raise UserError(f"{name}: {text!r} is not accepted; a path on this machine, not a URL")
    try:
        expanded = Path(text).expanduser()
    except RuntimeError:
        raise UserError(
            f"{name}: {text!r} is not accepted; this home directory is unknown, a path without ~"
            " is needed"
        ) from None
    # The whole path, since the names of the folders above end up in config.json and the report.
    whole = os.fspath(expanded.absolute())
    if "\0" in whole or not is_utf8(whole):
        raise UserError(f"{name}: {whole!r} is not accepted; a path in UTF-8")
    return expanded


def in_home(name: str) -> list[Path]:
    """Returns a place in the user's home directory, or nothing where that is unknown."""
    try:
        return [Path.home() / name]
    except RuntimeError:
        return []


def is_utf8(text: str) -> bool:
    """Tells whether a text of the command line or the file system was UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def require_file(path: Path, needed: str) -> None:
    """Raises UserError unless `path` is a regular file: a FIFO or a device may never end.

    Args:
      path: what is to be read.
      needed: a clause that ends the error.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {needed}") from None
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: not a file but {KINDS[stat.S_IFMT(mode)]}; {needed}")


def read_bytes(path: Path, needed: str) -> bytes:
    """Returns the bytes of a regular file.

    Args:
      path: of the file.
      needed: a clause that ends the error.

    Raises:
      UserError: it is not a file, or cannot be read.
    """
    require_file(path, needed)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); {needed}") from None
