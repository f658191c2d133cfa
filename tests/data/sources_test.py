"""Data sources: error messages, and atomic downloads."""

import hashlib
import http.server
import json
import threading
import time

import pytest

from jaxlabs.config import UserError
from jaxlabs.data import sources, texts

CONTENT = b"to be, or not to be\n" * 200
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT at /text, a part of it at /cut, 404 at /missing, no response at /silent."""

    released = threading.Event()

    def do_HEAD(self):
        if self.path == "/silent":
            self.released.wait(30)
        self.send_response(404 if self.path == "/missing" else 200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()

    def do_GET(self):
        self.do_HEAD()
        self.wfile.write(CONTENT[:1000] if self.path == "/cut" else CONTENT)

    def log_message(self, *_):
        pass


@pytest.fixture
def url(monkeypatch):
    """The URL of a local server."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        Handler.released.clear()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        Handler.released.set()
        server.shutdown()
        thread.join()


def test_text_is_read_unchanged(tmp_path):
    path = tmp_path / "book.txt"
    path.write_bytes("Zażółć\r\ngęślą\rjaźń 😀\n".encode())
    assert sources.read_text_file(path) == "Zażółć\r\ngęślą\rjaźń 😀\n"


def test_byte_order_mark_is_dropped_once(tmp_path):
    path = tmp_path / "book.txt"
    path.write_bytes(b"\xef\xbb\xbf\xef\xbb\xbfabc")
    assert sources.read_text_file(path) == "\ufeffabc"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"abc\xff", "not UTF-8 (byte 0xff at offset 3); save it as UTF-8 text"),
        (b"\xef\xbb\xbfab\xe9c", "not UTF-8 (byte 0xe9 at offset 5); save it as UTF-8 text"),
        (b"x" * 12_345 + b"\xc3", "not UTF-8 (byte 0xc3 at offset 12,345); save it as UTF-8 text"),
        (b"", "the file is empty; a UTF-8 text file is needed"),
        (b"\xef\xbb\xbf", "the file is empty; a UTF-8 text file is needed"),
    ],
)
def test_file_that_is_not_utf8_text_is_an_error(tmp_path, content, complaint):
    path = tmp_path / "book.txt"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        sources.read_text_file(path)
    assert str(caught.value) == f"{path}: {complaint}"


def test_folder_as_file_is_an_error(tmp_path):
    with pytest.raises(UserError) as caught:
        sources.read_text_file(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}: not a file but a folder; a UTF-8 text file is needed"
    )


def test_default_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXLABS_DATA_DIR", str(tmp_path))
    assert sources.default_data_dir() == tmp_path
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("JAXLABS_DATA_DIR")
    assert str(sources.default_data_dir()) == "/home/somebody/.cache/jaxlabs"


def make_tfds(home, version: str, file_format: str = "array_record"):
    folder = home / "texts" / version
    folder.mkdir(parents=True)
    (folder / "dataset_info.json").write_text(f'{{"fileFormat": "{file_format}"}}')
    return folder


def test_tfds_is_searched_in_three_folders_in_order(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "named"))
    assert sources.find_tfds("texts", tmp_path) is None
    for home in (tmp_path / "home/tensorflow_datasets", tmp_path / "named", tmp_path / "tfds"):
        folder = make_tfds(home, "1.0.0")
        assert sources.find_tfds("texts", tmp_path) == folder


def test_newest_array_record_version_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    make_tfds(tmp_path / "tfds", "1.0.0")
    make_tfds(tmp_path / "tfds", "9.0.0")
    newest = make_tfds(tmp_path / "tfds", "10.0.0")
    make_tfds(tmp_path / "tfds", "11.0.0", file_format="tfrecord")
    assert sources.find_tfds("texts", tmp_path) == newest


def test_damaged_tfds_data_is_an_error_of_one_line(tmp_path):
    folder = make_tfds(tmp_path, "1.0.0")
    with pytest.raises(
        UserError, match=r"^[^\n]*1\.0\.0: cannot be read \([^\n]*prepare it again$"
    ):
        sources.read_tfds(folder, ("train",), len)


def test_tfds_records_are_read_split_by_split(tmp_path, write_tfds):
    folder = tmp_path / "texts/1.0.0"
    splits = {"train": [{"text": b"a", "number": 7}, {"text": b"b"}], "test": [{"text": b"c"}]}
    write_tfds(folder, splits)
    found = sources.read_tfds(folder, ("test", "train"), list)
    assert found == splits["test"] + splits["train"]


@pytest.mark.parametrize("split", ["train", "validation"])
def test_missing_records_are_an_error_of_one_line(tmp_path, write_tfds, split):
    folder = tmp_path / "texts/1.0.0"
    write_tfds(folder, {"train": [{"text": b"a"}]})
    path = folder / "texts-train.array_record-00000-of-00001"
    path.write_bytes(path.read_bytes()[:70_000])
    with pytest.raises(
        UserError, match=r"^[^\n]*1\.0\.0: cannot be read \([^\n]*prepare it again$"
    ):
        sources.read_tfds(folder, (split,), lambda records: records[0])


def test_no_class_named_by_a_tfds_folder_is_imported(tmp_path, write_tfds, monkeypatch, offline):
    marker = tmp_path / "was here"
    (tmp_path / "hostile.py").write_text(f"open({str(marker)!r}, 'w').close()")
    monkeypatch.syspath_prepend(tmp_path)
    folder = tmp_path / "tfds/tiny_shakespeare/1.0.0"
    pieces = {split: [{"text": split.encode()}] for split in ("train", "validation", "test")}
    write_tfds(folder, pieces)
    of_class = {"pythonClassName": "hostile.Text", "text": {}}
    features = {"pythonClassName": "hostile.Dict", "featuresDict": {"features": {"text": of_class}}}
    (folder / "features.json").write_text(json.dumps(features))
    info = {"name": "tiny_shakespeare", "moduleName": "hostile", "fileFormat": "array_record"}
    (folder / "dataset_info.json").write_text(json.dumps(info | {"version": "1.0.0"}))
    with pytest.raises(UserError) as caught:
        texts.load("tiny_shakespeare", tmp_path, download=False)
    assert not marker.exists()
    assert str(caught.value).startswith(f"{folder}: not the published tiny_shakespeare")


def test_download_is_atomic(url, tmp_path):
    sources.download(f"{url}/text", SHA256, tmp_path / "new" / "text.txt")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["text.txt"]
    assert (tmp_path / "new" / "text.txt").read_bytes() == CONTENT


@pytest.mark.parametrize("what", ["cut", "text"])
def test_download_with_a_wrong_hash_leaves_no_file(url, tmp_path, what):
    sha256 = SHA256 if what == "cut" else "0" * 64
    with pytest.raises(sources.DownloadError, match=r"^the download to .* failed \(.*\)$"):
        sources.download(f"{url}/{what}", sha256, tmp_path / "text.txt")
    assert list(tmp_path.iterdir()) == []


def test_missing_file_on_the_server_is_an_error(url, tmp_path):
    with pytest.raises(sources.DownloadError) as caught:
        sources.download(f"{url}/missing", SHA256, tmp_path / "new" / "text.txt")
    assert str(caught.value) == "127.0.0.1 could not be reached or does not have it"
    assert list(tmp_path.iterdir()) == []


def test_server_without_response_times_out(url, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "TIMEOUT_S", 0.2)
    start = time.monotonic()
    with pytest.raises(sources.DownloadError, match=r"did not answer|could not be reached"):
        sources.download(f"{url}/silent", SHA256, tmp_path / "text.txt")
    assert time.monotonic() - start < 10


def test_dns_lookup_times_out(tmp_path, monkeypatch):
    # The timeout of a request does not cover the DNS lookup.
    monkeypatch.setattr(sources, "TIMEOUT_S", 0.2)
    released = threading.Event()

    def look_up(*_, **__):
        released.wait(30)
        raise OSError("no such host")

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    start = time.monotonic()
    with pytest.raises(sources.DownloadError) as caught:
        sources.download("https://nowhere.invalid/text", SHA256, tmp_path / "text.txt")
    assert time.monotonic() - start < 10
    assert str(caught.value) == "nowhere.invalid did not answer within 0.2 seconds"
    released.set()


def test_folder_that_cannot_be_created_is_an_error(url, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(sources.DownloadError, match=r"^the download to .* failed \(.*\)$"):
        sources.download(f"{url}/text", SHA256, tmp_path / "file" / "text.txt")
