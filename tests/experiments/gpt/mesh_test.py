"""The command on a mesh: a run changes it twice, and one is split over two processes."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from jaxlabs.run_folder import RunFolder
from jaxlabs.training.export import read_safetensors

CHECKOUT = Path(__file__).parents[3]
# Eight devices share few cores: see tests/conftest.py.
PATIENT = "--xla_cpu_collective_call_terminate_timeout_seconds=600"


@pytest.fixture(scope="module")
def command(tiny_flags, executables):
    """`command(folder, *flags, devices=1, addresses=((),)) -> stdout of each process`."""

    def run(folder, *flags, devices=1, addresses=((),)):
        environment = os.environ | {
            "XLA_FLAGS": f"{PATIENT} --xla_force_host_platform_device_count={devices}",
            "PJRT_NPROC": "16",
            "JAX_COMPILATION_CACHE_DIR": str(executables),
        }
        start = [sys.executable, "-m", "experiments.gpt", "--platform=cpu", f"--workdir={folder}"]
        start += flags if any("--mode" in flag for flag in flags) else [*tiny_flags, *flags]

        def one(address):
            return subprocess.run(
                [*start, *address],
                cwd=CHECKOUT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=1200,
                check=False,
            )

        with ThreadPoolExecutor(len(addresses)) as threads:
            found = list(threads.map(one, addresses))
        for process in found:
            assert process.returncode == 0, process.stderr[-3000:]
        # The library of the collectives prints a line.
        return [re.sub(r"^\[Gloo\].*\n", "", process.stdout, flags=re.M) for process in found]

    return run


@pytest.fixture
def two(free_port):
    """`two()`: the flags of each of two processes."""

    def flags():
        shared = (f"--coordinator=localhost:{free_port()}", "--num_processes=2")
        return [(*shared, f"--process_id={number}") for number in range(2)]

    return flags


LENGTH = ("--steps=12", "--keep_checkpoints=3", "--batch_size=8", "--ema_decay=0.9")


def cut_off(folder, step, path):
    """Copies a run without its end: as if it had been killed after the checkpoint of a step."""
    copy = RunFolder(shutil.copytree(folder.path, path))
    for saved in copy.checkpoints.iterdir():
        if int(saved.name) > step:
            shutil.rmtree(saved)
    (copy.path / "summary.json").unlink()
    return copy


def test_run_that_changes_its_mesh_ends_as_the_unchanged_one(command, tmp_path):
    """8x1 -> 1x8 -> one device, against 8x1; on the unchanged mesh to the bit."""
    whole = RunFolder(tmp_path / "whole")
    command(whole.path, *LENGTH, "--mesh=data:8", devices=8)
    same = cut_off(whole, 4, tmp_path / "same")
    command(same.path, *LENGTH, "--mesh=data:8", devices=8)
    ours, theirs = same.read_summary(), whole.read_summary()
    assert ours["parameters_sha256"] == theirs["parameters_sha256"]
    assert ours["metrics"] == theirs["metrics"]
    changed = cut_off(whole, 4, tmp_path / "fsdp")
    command(changed.path, *LENGTH, "--mesh=fsdp:8", devices=8)
    changed = cut_off(changed, 8, tmp_path / "one")
    command(changed.path, *LENGTH)
    ours = changed.read_summary()
    assert ours["steps"] == 12
    for name in (name for name in theirs["metrics"] if name.endswith("loss")):
        assert abs(ours["metrics"][name] - theirs["metrics"][name]) < 1e-3, name


def test_weights_split_over_two_processes_are_sampled_evaluated_and_exported(
    command, two, tmp_path
):
    run = RunFolder(tmp_path / "run")
    command(run.path, *LENGTH, "--mesh=fsdp:2", addresses=two())
    assert run.read_summary()["steps"] == 12
    assert run.report.exists()
    outputs, kernels = [], []
    for mesh, processes in (("fsdp:2", 2), ("tensor:2", 1)):
        texts = []
        for mode in ("evaluate", "sample", "export"):
            flags = f"--mode={mode}", f"--mesh={mesh}"
            options = {"addresses": two()} if processes == 2 else {"devices": 2}
            text, *others = command(run.path, *flags, **options)
            assert not any(others)  # only the main process prints
            texts.append(text)
        outputs.append(texts)
        exported, _ = read_safetensors(run.path / "parameters.safetensors")
        kernels.append(exported["blocks_0.attention.query_kernel"])
    (evaluated, *others), (evaluated_again, *others_again) = outputs
    assert others == others_again
    np.testing.assert_array_equal(*kernels)
    ours, theirs = (
        dict(map(str.split, text.splitlines())) for text in (evaluated, evaluated_again)
    )
    assert ours.keys() == theirs.keys() >= {"held_out_loss"}
    for name in ours:
        assert abs(float(ours[name]) - float(theirs[name])) < 2e-4, name
