"""Tests of jaxlabs/paths.py: local paths in UTF-8, and regular files."""

import os
import pathlib
import socket

import pytest

from jaxlabs import paths
from jaxlabs.config import UserError
from jaxlabs.data import sources


@pytest.fixture
def no_home(monkeypatch):
    """Removes HOME and the entry of the user in the password file, as in a container."""

    def unknown(*_):
        raise KeyError("no such user")

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("JAXLABS_DATA_DIR", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)


def test_tilde_is_expanded_to_the_home_directory():
    assert paths.local("~/runs/x", "workdir") == pathlib.Path.home() / "runs" / "x"
    assert paths.in_home("data") == [pathlib.Path.home() / "data"]


@pytest.mark.parametrize("url", ["gs://b/x", "s3://b", "http://h/x", "file:///x", "Az+1.0://x"])
def test_url_of_any_scheme_is_refused(url):
    with pytest.raises(UserError) as caught:
        paths.local(url, "workdir")
    assert str(caught.value) == (
        f"workdir: {url!r} is not accepted; a path on this machine, not a URL"
    )


@pytest.mark.parametrize("path", ["a:b", "c:/x", "x//y", "://x", "1://x", "gs:/b"])
def test_path_with_a_colon_is_accepted(path):
    assert paths.local(path, "workdir") == pathlib.Path(path)


def test_unknown_home_directory_is_refused(no_home):
    for path in ("~", "~/x", "~nobody_of_this_name/x"):
        with pytest.raises(UserError, match=r"^workdir: '~.*unknown home directory; a"):
            paths.local(path, "workdir")
    assert paths.in_home("data") == []
    with pytest.raises(UserError, match=r"^data_dir: '~/\.cache/jaxlabs' is not accepted"):
        sources.default_data_dir()
    assert sources.find_tfds("mnist", pathlib.Path("nowhere")) is None


@pytest.mark.parametrize("path", ["a\udcff", "a\0b"])
def test_path_of_invalid_utf8_is_refused(path):
    with pytest.raises(UserError, match=r"^workdir: .* is not accepted; a path in UTF-8$"):
        paths.local(path, "workdir")


def test_path_below_a_folder_of_invalid_utf8_is_refused(tmp_path, monkeypatch):
    below = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(below)
    monkeypatch.chdir(below)
    with pytest.raises(UserError, match=r"is not accepted; a path in UTF-8$"):
        paths.local("run", "workdir")


@pytest.fixture
def irregular(tmp_path):
    """Paths that are no regular files, by kind."""
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket"))
    return {
        "a folder": tmp_path / "folder",
        "a FIFO": tmp_path / "fifo",
        "a socket": tmp_path / "socket",
        "a device": pathlib.Path("/dev/zero"),
    }


def test_irregular_file_is_refused_without_blocking(irregular):
    for kind, path in irregular.items():
        with pytest.raises(UserError) as caught:
            paths.read_bytes(path, "a text is needed")
        assert str(caught.value) == f"{path}: not a file but {kind}; a text is needed"
    missing = irregular["a folder"] / "missing"
    with pytest.raises(
        UserError, match=r"missing: cannot be read \(No such file or directory\); a"
    ):
        paths.read_bytes(missing, "a text is needed")
