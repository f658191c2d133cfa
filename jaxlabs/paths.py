"""Paths given by the user: local, with `~` expanded, and of regular files."""

import os
import re
import stat
from pathlib import Path

from jaxlabs.config import ArgumentError, UserError

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def local(path: str | os.PathLike, name: str) -> Path:
    """Returns a local path with a leading `~` or `~user` expanded.

    Args:
      path: the path as given.
      name: name of the argument or variable, for the error message.

    Raises:
      ArgumentError: it is a URL, it is not valid UTF-8, or the home directory is unknown.
    """
    text = os.fspath(path)
    if SCHEME.match(text):
        raise ArgumentError(name, f"{text!r} is not accepted; a path on this machine, not a URL")
    try:
        expanded = Path(text).expanduser()
    except RuntimeError:
        raise ArgumentError(
            name, f"{text!r} is not accepted; unknown home directory; a path without ~"
        ) from None
    # The absolute path, since it is written to config.json and the report.
    whole = os.fspath(expanded.absolute())
    if "\0" in whole or not is_utf8(whole):
        raise ArgumentError(name, f"{whole!r} is not accepted; a path in UTF-8")
    return expanded


def in_home(name: str) -> list[Path]:
    """Returns a path in the user's home directory; empty if that is unknown."""
    try:
        return [Path.home() / name]
    except RuntimeError:
        return []


def is_utf8(text: str) -> bool:
    """Returns whether a string of the command line or the file system is valid UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def require_file(path: Path, needed: str) -> None:
    """Raises UserError unless `path` is a regular file: reading a FIFO or device may not end.

    Args:
      path: path of the file.
      needed: last clause of the error message.
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
      path: path of the file.
      needed: last clause of the error message.

    Raises:
      UserError: it is not a regular file, or cannot be read.
    """
    require_file(path, needed)
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); {needed}") from None
