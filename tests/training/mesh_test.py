"""Every lab on meshes of eight devices equals one device; in other processes, which have eight."""

import json
import os
import pathlib
import runpy
import subprocess
import sys

import pytest

WORKER = pathlib.Path(__file__).with_name("mesh_worker.py")
CASES = runpy.run_path(str(WORKER))["CASES"]
MESHES = ("data:8", "fsdp:8", "data:2,fsdp:2,tensor:2")
PATIENT = "--xla_cpu_collective_call_terminate_timeout_seconds=600"
TOLERANCES = {"float64": 1e-10, "float32": 1e-5}


@pytest.fixture(scope="module")
def measured(play, tmp_path_factory):
    """`measured(name, dtype)`: the differences from one device, by mesh; one process for all."""

    def run(name, dtype):
        out = tmp_path_factory.mktemp("measured") / "differences.json"
        cases = [f"{name}/{dtype}/{mesh}" for mesh in MESHES]
        command = [sys.executable, str(WORKER), str(play), str(out), *cases]
        # Eight devices share few cores: see tests/conftest.py.
        flags = {"XLA_FLAGS": PATIENT, "PJRT_NPROC": "16"}
        done = subprocess.run(
            command,
            env=os.environ | flags,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return json.loads(out.read_text())

    return run


@pytest.mark.slow
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", CASES)
def test_every_lab_on_every_mesh_equals_one_device(measured, name, dtype):
    """In float64 losses, gradients and ten steps; in float32 the loss and each gradient."""
    for case, differences in measured(name, dtype).items():
        assert ("params" in differences) == (dtype == "float64")
        for quantity, found in differences.items():
            value, where = found if isinstance(found, list) else (found, "")
            assert value <= TOLERANCES[dtype], f"{case}: {quantity} {where}"
