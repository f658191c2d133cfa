"""Paths that cannot be opened are refused in one line, in every lab."""

import os

import pytest

from jaxlabs import labs
from jaxlabs.benchmark import lab as benchmark
from jaxlabs.config import settings
from jaxlabs.labs.ddpm import lab as ddpm
from jaxlabs.labs.gpt import lab as gpt
from jaxlabs.runner import cli, reproduce

PATHS = ("workdir", "data_dir", "dataset", "fid_classifier")


LABS = [*map(labs.load, labs.names()), benchmark.STUDY, reproduce.suite({})]
CASES = [(lab, name) for lab in LABS for name, _ in settings(lab.config_class) if name in PATHS]


def check_one_line(lab, flags, start, capsys):
    assert cli.run(lab, flags) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{lab.name}: {start}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(("lab", "name"), CASES, ids=[f"{lab.name}-{name}" for lab, name in CASES])
def test_url_unknown_home_and_invalid_utf8_are_refused(lab, name, here, capsys):
    for value, start in {
        "gs://bucket/x": f"--{name}: 'gs://bucket/x' is not accepted; a path on this machine",
        "file:///x": f"--{name}: 'file:///x' is not accepted; a path on this machine",
        "~nobody_of_this_name/x": f"--{name}: '~nobody_of_this_name/x' is not accepted; unknown",
        "/\udcff": f"'--{name}=/\\udcff' is not accepted; text in UTF-8",
    }.items():
        check_one_line(lab, [f"--{name}={value}"], start, capsys)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("mode", ["sample", "evaluate", "analyze", "export"])
def test_reading_modes_refuse_them_too(mode, here, capsys):
    for value in ("s3://bucket/x", "~nobody_of_this_name"):
        flags = [f"--mode={mode}", f"--workdir={value}"]
        check_one_line(gpt.LAB, flags, f"--workdir: {value!r} is not accepted; ", capsys)


@pytest.mark.parametrize("argument", ["--prompt=\udcff", "--\udcff=3", "\udcff", "--seed=\udcff"])
def test_arguments_of_invalid_utf8_are_refused(argument, here, capsys):
    check_one_line(gpt.LAB, [argument], f"{argument!r} is not accepted; text in UTF-8", capsys)


def test_data_folder_of_the_environment_is_checked_too(here, monkeypatch, capsys):
    for value in ("gs://bucket/x", os.fsdecode(b"/\xff")):
        monkeypatch.setenv("JAXLABS_DATA_DIR", value)
        check_one_line(gpt.LAB, [], f"JAXLABS_DATA_DIR: {value!r} is not accepted; ", capsys)
    assert list(here.iterdir()) == []


def test_missing_home_directory_names_the_flag(here, monkeypatch, capsys):
    def unknown(*_):
        raise KeyError("no such user")

    monkeypatch.delenv("HOME")
    monkeypatch.delenv("JAXLABS_DATA_DIR", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    check_one_line(gpt.LAB, [], "--data_dir: '~/.cache/jaxlabs' is not accepted; unknown", capsys)
    check_one_line(ddpm.LAB, [], "--data_dir: '~/.cache/jaxlabs' is not accepted; unknown", capsys)
    assert list(here.iterdir()) == []
