"""A damaged file of a run folder gives one line and status 2, or is omitted from the report."""

import io
import json
import os
import shutil

import numpy as np
import pytest

from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli

ABOUT_DAMAGE = True
pytestmark = pytest.mark.usefixtures("reused_executables")

# File of a run folder -> its readers: modes, or the same command again.
READERS = {
    "config.json": ("again", "evaluate", "sample", "analyze", "export"),
    "metrics.jsonl": ("again", "analyze"),
    "summary.json": ("again", "analyze"),
    "arrays/attention_maps.npz": ("again",),
    "samples/final.txt": ("again",),
    "samples/step-000004.txt": ("again",),
    "checkpoints/4/facts/metadata": ("again", "sample"),
}


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


CONTENTS = {
    "empty": b"",
    "zeros": b"\0\0\0\0\n",
    "null": b"null\n",
    "list": b"[]\n",
    "object": b"{}\n",
    "empty rows": b'\n\n{}\n[]\n{"step": 4}\n{"step": [4], "split": 3, "loss": "low"}\n',
    "not UTF-8": b"\xff\xfe\n",
    "nested": b"[" * 100_000,
    "bert": b'{"model_type": "bert"}\n',
    "strings for everything": json.dumps(
        dict.fromkeys(["experiment", "preset", "settings", "metrics", "seconds", "comparison"], "x")
    ).encode(),
    "other arrays": npz(maps=np.zeros((2, 3)), labels=np.zeros(2), other=np.ones(1)),
    "pickled": npz(maps=np.array([{}], object)),
}


def cut(content):
    return content[: len(content) // 2]


def flipped(content):
    return content[:20] + bytes([content[20] ^ 0x55]) + content[21:]


def damaged_middle(content):
    middle = content.find(b"\n") + 1
    return content[:middle] + b"\0\0\0\n\n{}\nnull\n" + content[middle:]


CHANGES = {"cut": cut, "flipped": flipped, "damaged middle": damaged_middle}
CHANGES |= {name: lambda _, content=content: content for name, content in CONTENTS.items()}
KINDS = {
    "a folder": lambda path: path.mkdir(),
    "a FIFO": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "gone": lambda path: None,
}


@pytest.fixture
def run(trained, tmp_path):
    return RunFolder(shutil.copytree(trained, tmp_path / "run"))


def flags_of(reader, tiny_flags, run):
    workdir = f"--workdir={run.path}"
    return (
        [*tiny_flags, "--steps=4", workdir] if reader == "again" else [f"--mode={reader}", workdir]
    )


def check_complete_or_refused(flags, capsys):
    """Asserts success, or status 2 with one line on stderr; returns the line."""
    capsys.readouterr()
    status = cli.run(LAB, flags)
    err = capsys.readouterr().err
    assert status in (0, 2), err
    assert "Traceback" not in err
    if status == 0:
        return ""
    *progress, line = err.splitlines()
    assert line.startswith("gpt: ")
    assert all(each.startswith(("resuming at step 4", "final evaluation: ")) for each in progress)
    return line


QUICK = {
    "config.json": ("null", "bert", "a FIFO"),
    "metrics.jsonl": ("damaged middle", "not UTF-8"),
    "summary.json": ("object", "cut"),
    "arrays/attention_maps.npz": ("flipped", "other arrays", "pickled"),
    "samples/final.txt": ("not UTF-8",),
    "samples/step-000004.txt": ("a device",),
    "checkpoints/4/facts/metadata": ("null",),
}
"""Damage by file, tested in every run; the rest is slow."""

CASES = [
    pytest.param(name, damage, marks=() if damage in QUICK[name] else pytest.mark.slow)
    for name in READERS
    for damage in (*CHANGES, *KINDS)
]


@pytest.mark.parametrize(("name", "damage"), CASES)
def test_damage_to_any_file_gives_one_line_or_is_omitted(
    name, damage, run, trained, tiny_flags, capsys
):
    for reader in READERS[name]:
        (run.path / "thesis.tex").write_text("mine")
        (run.samples / "step-notes.txt").write_text("mine")
        path = run.path / name
        content = path.read_bytes()
        path.unlink()
        if damage in CHANGES:
            path.write_bytes(CHANGES[damage](content))
        else:
            KINDS[damage](path)
        line = check_complete_or_refused(flags_of(reader, tiny_flags, run), capsys)
        assert not line or path.name in line or "--workdir: " in line, line
        assert (run.path / "thesis.tex").read_text() == "mine"
        assert (run.samples / "step-notes.txt").read_text() == "mine"
        shutil.rmtree(run.path)
        shutil.copytree(trained, run.path)
