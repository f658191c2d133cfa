"""Formats of the files of a run folder, and their reading: damaged files give one line."""

import json
import os
import pickle

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.run_folder import RunFolder
from jaxlabs.run_folder.files import Texts, parse_rows

CONFIG = {"experiment": "gpt", "preset": "quick", "settings": {}}
SUMMARY = {"experiment": "gpt", "preset": "quick", "metrics": {"loss": 1.5}, "seconds": 1.0}
SUMMARY |= {"comparison": [], "environment": {}}
ROW = {"step": 3, "split": "train", "loss": 2.5}


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


GOOD_ROWS = [ROW, ROW | {"loss": None}, ROW | {"step": 0, "seconds": 1}]
BAD_LINES = [b"", b"\0\0\0\0", b"{}", b"[]", b"null", b"3", b"\xff", b'{"step": 3', b"[" * 9999]
BAD_LINES += [
    json.dumps(row).encode()
    for row in (
        {"step": 3, "split": "train"},
        {"step": 3, "loss": 2.5},
        ROW | {"step": -1},
        ROW | {"step": 10**30},
        ROW | {"step": 1.5},
        ROW | {"step": None},
        ROW | {"split": 3},
        ROW | {"loss": "low"},
        ROW | {"loss": 10**400},
        ROW | {"seconds": []},
        ROW | {"loss": float("inf")},
    )
]


@pytest.mark.parametrize("bad", BAD_LINES)
def test_invalid_line_is_skipped_at_any_position(bad):
    good = [json.dumps(row).encode() for row in GOOD_ROWS]
    for index in range(len(good) + 1):
        content = b"\n".join([*good[:index], bad, *good[index:]]) + b"\n"
        assert parse_rows(content) == (GOOD_ROWS, 1)


def test_unreadable_rows_are_removed_at_resume_with_a_warning(folder, caplog):
    folder.append_metrics([ROW])
    with open(folder.metrics, "ab") as file:
        file.write(b'\0\0\0\n{"step": 4, "spl')
    folder.drop_after(3)
    assert folder.metrics.read_text() == json.dumps(ROW) + "\n"
    assert caplog.messages == [f"{folder.metrics}: removed 1 unreadable lines"]
    folder.drop_after(3)
    assert len(caplog.messages) == 1


NO_JSON = {"": "", "zeros": "\0\0", "half": '{"experiment": "g', "nested": "[" * 100_000}
DAMAGED = dict.fromkeys(("null", "[]", "{}", '"x"', "3"))


@pytest.mark.parametrize("text", [*NO_JSON.values(), *DAMAGED])
@pytest.mark.parametrize("name", ["config", "summary"])
def test_damaged_json_gives_one_line_with_the_file(folder, name, text):
    path = folder.path / f"{name}.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        getattr(folder, f"read_{name}")()
    line = str(caught.value)
    kind = "damaged" if text in DAMAGED else "not valid JSON"
    assert line.startswith(f"{path}: {kind} (")
    assert "\n" not in line
    assert not folder.is_complete()


@pytest.mark.parametrize("name", ["config", "summary"])
def test_json_of_invalid_utf8_or_irregular_file_gives_one_line(folder, name):
    path = folder.path / f"{name}.json"
    path.write_bytes(b'{"\xff": 1}')
    with pytest.raises(UserError, match=rf"{name}\.json: not valid JSON \('utf-8' codec"):
        getattr(folder, f"read_{name}")()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match=rf"{name}\.json: not a file but a FIFO; "):
        getattr(folder, f"read_{name}")()


@pytest.mark.parametrize("value", [3, "x", [], {}, None])
@pytest.mark.parametrize("name", CONFIG)
def test_config_with_an_invalid_type_is_refused(folder, name, value):
    if isinstance(value, type(CONFIG[name])):
        return
    folder.write_config(CONFIG | {name: value})
    with pytest.raises(UserError, match=rf"config\.json: damaged \(its '{name}' is not a"):
        folder.read_config()
    folder.write_config({key: value for key, value in CONFIG.items() if key != name})
    with pytest.raises(UserError, match=rf"config\.json: damaged \(without '{name}'\)"):
        folder.read_config()


@pytest.mark.parametrize("name", SUMMARY)
def test_summary_without_a_required_key_counts_as_missing(folder, name):
    folder.write_summary(SUMMARY)
    assert folder.is_complete()
    folder.write_summary({key: value for key, value in SUMMARY.items() if key != name})
    assert not folder.is_complete()


CHANGED = [
    {"metrics": {"loss": "low"}},
    {"seconds": "x"},
    {"comparison": [{}]},
    {"comparison": [3]},
]
CHANGED += [{"steps": "8"}, {"groups": {}}, {"environment": []}, {"metrics": {"loss": 10**400}}]


@pytest.mark.parametrize("change", CHANGED)
def test_summary_with_an_invalid_type_counts_as_missing(folder, change):
    folder.write_summary(SUMMARY | change)
    assert not folder.is_complete()


def test_damaged_or_pickled_arrays_give_one_line(folder):
    folder.write_arrays("maps", maps=np.arange(1000.0))
    path = folder.arrays("maps")
    whole = path.read_bytes()
    np.testing.assert_array_equal(folder.read_arrays(path)["maps"], np.arange(1000.0))
    damaged = [b"", b"PK", whole[: len(whole) // 2], whole[:500] + b"\xff" + whole[501:]]
    damaged += [pickle.dumps({"maps": 1}), b"\x93NUMPY\x01\0"]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"maps\.npz: not a readable \.npz \(.*\); remove"):
            folder.read_arrays(path)
    np.savez(path, maps=np.array([{}], object))
    with pytest.raises(UserError, match=r"maps\.npz: .*Object arrays cannot be loaded"):
        folder.read_arrays(path)


def test_texts_with_separators_round_trip(folder):
    texts = Texts({"temperature 1.0": ["a\n----------\nb", "===== x\r\n"], "": ["\u2028é"]})
    folder.write_sample("final", texts)
    assert json.loads((folder.samples / "final.json").read_text()) == texts.groups
    assert (folder.samples / "final.txt").read_bytes().decode() == str(texts)


def test_text_of_invalid_utf8_gives_one_line(folder):
    path = folder.samples / "final.txt"
    path.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"final\.txt: not UTF-8 \(invalid start byte\); remove it"):
        folder.read_text(path)


def test_samples_with_other_names_are_ignored_and_kept(folder):
    ours = [folder.write_sample(name, "x") for name in ("step-000004", "step-1000000")]
    others = ["step-000004 (good).txt", "step-notes.txt", "step-4.txt", "step-000004.txt~"]
    for name in others:
        (folder.samples / name).write_text("mine")
    assert folder.step_samples("txt") == {4: ours[0], 1000000: ours[1]}
    folder.drop_after(0)
    assert sorted(path.name for path in folder.samples.iterdir()) == sorted(others)


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "summary.json"])
def test_file_outside_is_not_read_through_a_link(folder, tmp_path, name):
    (tmp_path / name).write_text(json.dumps(CONFIG | SUMMARY | ROW))
    (folder.path / name).symlink_to(tmp_path / name)
    reads = {"config.json": "read_config", "metrics.jsonl": "read_metrics"}
    with pytest.raises(UserError, match=r"is a link out of the run folder, to .*; replace it with"):
        getattr(folder, reads.get(name, "read_summary"))()


def test_sample_folder_outside_is_refused(folder, tmp_path):
    folder.samples.rmdir()
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "step-000004.txt").write_text("mine")
    folder.samples.symlink_to(tmp_path / "diary")
    for write in (
        folder.create,
        lambda: folder.drop_after(0),
        lambda: folder.write_sample("x", ""),
    ):
        with pytest.raises(UserError, match=r"is a link out of the run folder, to .*diary"):
            write()
    assert [path.name for path in (tmp_path / "diary").iterdir()] == ["step-000004.txt"]


@pytest.fixture(params=["with flags", "without flags"])
def flags_of_open(request, monkeypatch):
    """Windows has no flags against links and FIFOs."""
    if request.param == "without flags":
        monkeypatch.delattr(os, "O_NOFOLLOW")
        monkeypatch.setattr(os, "O_NONBLOCK", 0)


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl"])
def test_nothing_is_appended_through_a_link(folder, tmp_path, name, flags_of_open):
    (tmp_path / "mine").write_text("mine")
    (folder.path / name).symlink_to(tmp_path / "mine")
    refused = pytest.raises(UserError, match=rf"{name} \(Too many levels of symbolic")
    with refused, folder.writer():
        folder.append_metrics([ROW])
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl"])
def test_fifo_is_refused_without_blocking(folder, name, flags_of_open):
    os.mkfifo(folder.path / name)
    refused = pytest.raises(UserError, match=rf"cannot write .*{name} \(No such device")
    with refused, folder.writer():
        folder.append_metrics([ROW])


def test_nothing_is_replaced_through_a_link(folder, tmp_path):
    (tmp_path / "mine").write_text("mine")
    for name in (".writable", "config.json", ".config.json.partial"):
        (folder.path / name).symlink_to(tmp_path / "mine")
    folder.create()
    folder.write_config(CONFIG)
    assert folder.read_config() == CONFIG
    assert (tmp_path / "mine").read_text() == "mine"
    folder.figures.rmdir()
    folder.figures.symlink_to(tmp_path)
    with pytest.raises(UserError, match=r"figures is a link out of the run folder"):
        folder.write_bytes(folder.figures / "mine", b"ours")
    assert (tmp_path / "mine").read_text() == "mine"


def test_link_within_the_folder_is_followed(folder):
    folder.write_sample("step-000004", "text")
    link = folder.samples / "final.txt"
    link.symlink_to("step-000004.txt")
    assert folder.read_text(link) == "text"


def test_run_folder_may_be_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "disk")
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.write_config(CONFIG)
    assert folder.read_config() == CONFIG
