"""Holds jaxlabs/paths.py to local paths in UTF-8 and to files that have an end."""

import os
import pathlib
import socket

import pytest

from jaxlabs import paths
from jaxlabs.config import UserError
from jaxlabs.data import sources


@pytest.fixture
def homeless(monkeypatch):
    """No HOME, and a user without an entry in the password file, as in a container."""

    def unknown(*_):
        raise KeyError("no such user")

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("JAXLABS_DATA_DIR", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)


def test_home_directory_stands_for_a_tilde():
    assert paths.local("~/runs/x", "--workdir") == pathlib.Path.home() / "runs" / "x"
    assert paths.in_home("data") == [pathlib.Path.home() / "data"]


@pytest.mark.parametrize("url", ["gs://b/x", "s3://b", "http://h/x", "file:///x", "Az+1.0://x"])
def test_url_is_refused_whatever_its_scheme(url):
    with pytest.raises(UserError) as caught:
        paths.local(url, "--workdir")
    assert str(caught.value) == (
        f"--workdir: {url!r} is not accepted; a path on this machine, not a URL"
    )


@pytest.mark.parametrize("path", ["a:b", "c:/x", "x//y", "://x", "1://x", "gs:/b"])
def test_path_with_a_colon_is_a_path(path):
    assert paths.local(path, "--workdir") == pathlib.Path(path)


def test_unknown_home_directory_is_refused(homeless):
    for path in ("~", "~/x", "~nobody_of_this_name/x"):
        with pytest.raises(UserError, match=r"^--workdir: '~.*this home directory is unknown, a"):
            paths.local(path, "--workdir")
    assert paths.in_home("data") == []
    with pytest.raises(UserError, match=r"^--data_dir: '~/\.cache/jaxlabs' is not accepted"):
        sources.default_data_dir()
    assert sources.prepared("mnist", pathlib.Path("nowhere")) is None


@pytest.mark.parametrize("path", ["a\udcff", "a\0b"])
def test_path_that_is_no_text_is_refused(path):
    with pytest.raises(UserError, match=r"^--workdir: .* is not accepted; a path in UTF-8$"):
        paths.local(path, "--workdir")


def test_path_below_a_folder_that_is_no_text_is_refused(tmp_path, monkeypatch):
    below = os.fsencode(tmp_path) + b"/\xff"
    os.mkdir(below)
    monkeypatch.chdir(below)
    with pytest.raises(UserError, match=r"is not accepted; a path in UTF-8$"):
        paths.local("run", "--workdir")


@pytest.fixture
def unending(tmp_path):
    """Everything that is no regular file, by what it is called."""
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


def test_what_is_no_file_is_named_and_not_waited_for(unending):
    for kind, path in unending.items():
        with pytest.raises(UserError) as caught:
            paths.read_bytes(path, "a text is needed")
        assert str(caught.value) == f"{path}: not a file but {kind}; a text is needed"
    missing = unending["a folder"] / "missing"
    with pytest.raises(
        UserError, match=r"missing: cannot be read \(No such file or directory\); a"
    ):
        paths.read_bytes(missing, "a text is needed")
