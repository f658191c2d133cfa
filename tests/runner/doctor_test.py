"""`jaxlabs doctor`: what it finds, each problem with what to type, and its exit status."""

import argparse
import builtins
import collections
import importlib.metadata
import os
import shutil
import subprocess
import sys
import tempfile

import jax
import psutil
import pytest

from jaxlabs import runner
from jaxlabs.data import mnist, sources
from jaxlabs.runner import doctor, machine
from jaxlabs.runner.doctor import FAIL, NOTE, OK, Finding
from jaxlabs.training import checkpoints, devices

NEEDED = ["jax<0.13,>=0.10", "numpy>=2", 'pytest>=8; extra == "test"']


@pytest.fixture
def installed(monkeypatch):
    """`installed(jax="0.10.2")` sets the versions of the installed packages."""
    versions = collections.defaultdict(lambda: "2.0", jax="0.10.2", jaxlib="0.10.2")

    def version(name):
        if versions[name] is None:
            raise importlib.metadata.PackageNotFoundError
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "requires", lambda name: NEEDED)
    monkeypatch.setattr(importlib.metadata, "version", version)
    return versions.update


def problems(found):
    return [(each.subject, each.level, each.remedy) for each in found if each.level != OK]


def test_healthy_machine_has_a_line_per_subject_and_status_0(capsys, monkeypatch):
    monkeypatch.setitem(machine.SIZES, jax.default_backend(), 64)
    assert doctor.run(argparse.Namespace()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "0 problems stop runs"
    subjects = {line[6:].split()[0] for line in lines if line[:4].strip()}
    expected = {"python", "platform", "jaxlabs", "packages", "memory", "runs", "data", "devices"}
    assert expected | {"matmul", *machine.FILES} <= subjects
    (matmul,) = [line for line in lines if "matmul" in line]
    assert matmul.count("GFLOP/s") == 2


@pytest.mark.parametrize(
    ("levels", "status", "line"),
    [
        ([OK, NOTE], 0, "0 problems stop runs"),
        ([OK, FAIL, NOTE], 1, "1 problem stops runs"),
        ([FAIL, FAIL], 1, "2 problems stop runs"),
    ],
)
def test_status_is_1_if_something_stops_runs(monkeypatch, capsys, levels, status, line):
    found = [Finding("x", "y", level, "type this") for level in levels]
    monkeypatch.setattr(doctor, "findings", lambda: iter(found))
    assert doctor.run(argparse.Namespace()) == status
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == line
    assert printed[1].split() == ["->", "type", "this"]


def test_without_jax_the_other_findings_are_made(monkeypatch):
    monkeypatch.setattr(doctor, "importing_jax", lambda: iter([Finding("jax", "x", FAIL)]))
    monkeypatch.setattr(machine, "findings", None)  # it needs JAX
    subjects = [finding.subject for finding in doctor.findings()]
    assert subjects[-1] == "jax"
    assert {"memory", "runs", "data"} < set(subjects)


def test_packages_in_range_are_no_problem(installed):
    assert problems(doctor.packages()) == []


@pytest.mark.parametrize("version", [None, "0.9.1", "0.13.0"])
def test_package_that_is_missing_or_out_of_range_names_what_to_install(installed, version):
    installed(jax=version)
    assert problems(doctor.packages()) == [("jax", FAIL, "pip install 'jax<0.13,>=0.10'")]


def test_jax_that_does_not_fit_jaxlib_names_the_pair(installed, monkeypatch):
    installed(jaxlib="0.9.0")
    import_module = builtins.__import__

    def fail(name, *rest):
        if name == "jax":
            raise RuntimeError("jaxlib version 0.9.0 is incompatible\nwith jax version 0.10.2.")
        return import_module(name, *rest)

    monkeypatch.setattr(builtins, "__import__", fail)
    (finding,) = doctor.importing_jax()
    assert finding.level == FAIL
    assert finding.text == "jaxlib version 0.9.0 is incompatible with jax version 0.10.2."
    assert finding.remedy == "pip install jax==0.10.2 jaxlib==0.10.2"


def test_missing_library_is_a_problem_and_no_traceback(monkeypatch):
    monkeypatch.delattr(runner, "machine")
    monkeypatch.setitem(sys.modules, "jaxlabs.runner.machine", None)
    *_, last = doctor.findings()
    assert last.level == FAIL
    assert "pip install -e ." in last.remedy


def test_little_free_memory_and_disk_are_notes(monkeypatch):
    memory = argparse.Namespace(total=8e9, available=1e9)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    assert [finding.level for finding in doctor.memory()] == [NOTE]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: argparse.Namespace(free=1e9))
    assert [finding.level for finding in doctor.folders()] == [NOTE, NOTE]


@pytest.mark.parametrize("free", [0, checkpoints.SPARE_BYTES - 1])
def test_full_disk_stops_runs(monkeypatch, free):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: argparse.Namespace(free=free))
    runs, data = doctor.folders()
    assert (runs.level, data.level) == (FAIL, NOTE)
    assert runs.remedy == "free some space"
    assert doctor.FULL_DISK == checkpoints.SPARE_BYTES


def test_only_the_run_folder_must_be_writable(monkeypatch):
    def fail(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", fail)
    runs, data = doctor.folders()
    assert (runs.level, data.level) == (FAIL, NOTE)
    assert "runs: cannot be written (Permission denied)" in runs.text
    assert "--workdir" in runs.remedy
    assert "JAXLABS_DATA_DIR" in data.remedy


@pytest.mark.parametrize(
    ("platforms", "remedy"), [("tpu", "unset JAX_PLATFORMS"), ("", "give commands --platform=cpu")]
)
def test_unavailable_platform_stops_runs_and_nothing_is_measured(monkeypatch, platforms, remedy):
    def fail():
        raise RuntimeError("no device")

    monkeypatch.setattr(jax, "devices", fail)
    for name in devices.PLATFORM_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JAX_PLATFORMS", platforms)
    *_, last = machine.findings(None)
    assert (last.subject, last.level, last.remedy) == ("devices", FAIL, remedy)


def test_variables_that_change_a_run_are_listed_with_their_effect(monkeypatch):
    for name in [*os.environ]:
        if name.startswith(("JAX_", "XLA_")):
            monkeypatch.delenv(name)
    assert list(machine.variables()) == []
    values = {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", "XLA_FLAGS": "--xla_cpu_x=1"}
    values |= {"JAX_RANDOM_SEED_OFFSET": "3"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    found = {finding.subject: finding.text for finding in machine.variables()}
    assert found.keys() == values.keys()
    assert "ignored" in found["JAX_ENABLE_X64"]
    assert "ignored" in found["JAX_RANDOM_SEED_OFFSET"]
    assert "--platform" in found["JAX_PLATFORMS"]
    assert "same flags" in found["XLA_FLAGS"]


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="the GPU is used")
@pytest.mark.parametrize(
    ("driver", "extra"),
    [
        ("570.86.15", "cuda12"),
        ("580.1", "cuda13"),
        ("[N/A]", "cuda12"),
        ("[Not Supported]", "cuda12"),
    ],
)
def test_gpu_that_jax_does_not_use_names_the_extra_for_its_driver(monkeypatch, driver, extra):
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    assert problems(machine.listed(driver)) == [("CUDA", NOTE, f"pip install 'jaxlabs[{extra}]'")]
    assert problems(machine.listed(None)) == []


def test_gpu_has_its_memory_and_its_version_of_cuda(monkeypatch):
    client = argparse.Namespace(platform_version="PJRT C API\ncuda 13000")
    gpu = argparse.Namespace(platform="gpu", device_kind="NVIDIA X", client=client)
    gpu.memory_stats = lambda: {"bytes_limit": 16e9}
    monkeypatch.setattr(jax, "devices", lambda: [gpu, gpu])
    found = list(machine.listed("580.1"))
    assert problems(found) == []
    lines = ["2 x NVIDIA X (gpu), 16.0 GB, cuda 13000", "NVIDIA 580.1"]
    assert [finding.text for finding in found] == lines


def test_driver_is_that_of_nvidia_smi(monkeypatch):
    printed = argparse.Namespace(stdout="580.65.06\n580.65.06\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: printed)
    assert doctor.nvidia_driver() == "580.65.06"
    printed.stdout = "[Not Supported]\n"
    assert doctor.nvidia_driver() == "[Not Supported]"
    printed.stdout = ""
    assert doctor.nvidia_driver() is None

    def fail(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", fail)
    assert doctor.nvidia_driver() is None


def test_missing_data_sets_name_the_labs_and_the_files(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXLABS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(sources, "find_tfds", lambda name, home: None)
    found = {finding.subject: finding for finding in machine.data_sets()}
    assert found.keys() == machine.FILES.keys()
    assert all(finding.level == NOTE for finding in found.values())
    assert "the first run of char_rnn, gpt downloads it" in found["tiny_shakespeare"].text
    assert "generated data instead in speech_classifier, speech_lm" in found["speeches"].text
    assert "speeches/train_LM.txt, speeches/test_LM_obama.txt" in found["speeches"].remedy
    assert found["speeches"].remedy.endswith(f"into {tmp_path}")


def test_data_sets_are_found_as_files_or_prepared(tmp_path, monkeypatch):
    monkeypatch.setenv("JAXLABS_DATA_DIR", str(tmp_path))
    prepared = {"tiny_shakespeare": tmp_path / "tfds"}
    monkeypatch.setattr(sources, "find_tfds", lambda name, home: prepared.get(name))
    (tmp_path / "mnist").mkdir()
    for file in mnist.FILES.values():
        (tmp_path / "mnist" / file.name).touch()
    found = {finding.subject: finding for finding in machine.data_sets()}
    assert found["mnist"].text.startswith(f"found in {tmp_path} (for ")
    (tmp_path / "mnist" / file.name).unlink()
    found |= {finding.subject: finding for finding in machine.data_sets()}
    assert found["mnist"].level == NOTE
    assert found["tiny_shakespeare"].text == f"found in {tmp_path}/tfds (for char_rnn, gpt)"
