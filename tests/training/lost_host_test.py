"""Multi-process runs that lose a process or cannot connect: one line, without a long wait."""

import os
import signal
import subprocess
import sys
import time

import pytest

from jaxlabs.config import UserError
from jaxlabs.training import hosts
from jaxlabs.training.run_config import RunConfig

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(hosts.__file__)))

# Processes that exchange a number in a loop, or cannot connect. An empty address is the launcher's.
WORKER = """
import sys, time
from jaxlabs.config import UserError
from jaxlabs.training import devices, hosts

address, count, number, wait, exchange = sys.argv[1], *map(int, sys.argv[2:])
hosts.follow_launcher()
try:
    if address:
        hosts.join(address, count, number, wait)
    else:
        hosts.join(None, None, wait=wait)
    hosts.connected()
    print("joined", flush=True)
    while True:
        devices.sync_hosts(1, False) if exchange else time.sleep(1)
except UserError as error:
    print(error, file=sys.stderr)
    hosts.abandon(2)
except Exception as error:
    print(hosts.lost(error), file=sys.stderr)
    hosts.abandon(hosts.STATUS)
"""


def start(port, number, *, count=2, variables=None, wait=120, exchange=True):
    address = f"localhost:{port}" if variables is None else ""
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, address, *map(str, (count, number, wait, int(exchange)))],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | (variables or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# SIGKILL closes the connections of a process, as if its machine restarts; SIGSTOP leaves them open,
# as if its machine has lost the network.
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither signal")
@pytest.mark.parametrize(
    ("count", "slurm", "killed", "exchange", "name"),
    [
        (2, False, 0, True, "SIGKILL"),
        (4, True, 1, True, "SIGKILL"),
        (2, True, 0, False, "SIGKILL"),
        (2, False, 1, True, "SIGSTOP"),
        (2, False, 0, True, "SIGSTOP"),
    ],
)
def test_processes_that_lose_another_exit_within_a_minute_with_one_line(
    count, slurm, killed, exchange, name, free_port, slurm_variables
):
    port, processes = free_port(), []
    for index in range(count):
        variables = slurm_variables(count, index, port) if slurm else None
        one = start(port, index, count=count, variables=variables, exchange=exchange)
        processes.append(one)
    try:
        for process in processes:
            while process.stdout.readline() not in ("joined\n", ""):
                pass  # messages of Gloo
        time.sleep(1)
        began = time.monotonic()
        processes[killed].send_signal(getattr(signal, name))
        others = {index: one for index, one in enumerate(processes) if index != killed}
        errors = {index: one.communicate(timeout=120)[1] for index, one in others.items()}
        assert time.monotonic() - began < 60
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    for index, error in errors.items():
        assert processes[index].returncode == hosts.STATUS
        lost = f"process {index} of {count}: another process of the run was lost; restart all of"
        assert error.startswith(lost)
        assert error.count("\n") == 1


@pytest.mark.parametrize("number", [0, 1])
def test_processes_that_cannot_connect_give_one_line(number, free_port):
    port = free_port()
    process = start(port, number, wait=2)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert error == (
        f"--coordinator: the 2 processes of the run could not connect to localhost:{port} within 2"
        " s; start"
        " all of them, with the address and a free port of process 0\n"
    )


def test_slurm_task_without_the_others_gives_one_line(free_port, slurm_variables):
    process = start(None, 1, variables=slurm_variables(2, 1, free_port()), wait=2)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert error.startswith(
        "--num_processes: the processes that Slurm has started could not connect to each other"
        " within 2 s; start all of them, or each alone with --num_processes=1"
    )
    assert error.count("\n") == 1


SLURM, OPEN_MPI = (dict.fromkeys(hosts.LAUNCHERS[name], "2") for name in ("Slurm", "Open MPI"))


@pytest.mark.parametrize(
    ("variables", "platform", "found"),
    [
        ({}, "auto", None),
        (SLURM, "auto", "Slurm"),
        (SLURM | {"SLURM_NTASKS": "1"}, "auto", None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, "auto", None),  # a shell of salloc
        (OPEN_MPI, "cpu", "Open MPI"),
        (OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1"}, "cpu", None),
        ({"TPU_ML_PLATFORM": "JAX"}, "auto", "the TPU machine"),
        ({"TPU_ML_PLATFORM": "JAX"}, "cpu", None),
    ],
)
def test_launcher_is_found_by_its_variables(variables, platform, found, monkeypatch):
    for name in (hosts.TPU_VARIABLE, *SLURM, *OPEN_MPI):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert hosts.launcher(platform) == found


def test_tpu_without_the_metadata_of_a_pod_is_alone():
    code = """
import sys
from jaxlabs.training import devices, hosts
hosts.follow_launcher()
hosts.join(None, None)
import jax
jax.config.update("jax_platforms", "cpu")
print(jax.process_count(), jax.numpy.ones(3).sum(), file=sys.stderr)
"""
    variables = dict.fromkeys((*SLURM, *OPEN_MPI)) | {hosts.TPU_VARIABLE: "JAX"}
    environment = {**os.environ, **variables, "PYTHONPATH": ROOT}
    environment = {name: value for name, value in environment.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stderr.splitlines()[-1] == "1 3.0"


@pytest.mark.parametrize(("given", "is_command"), [(None, False), (1, True)])
def test_library_call_and_a_single_process_join_nothing(given, is_command, monkeypatch):
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(hosts, "_is_command", is_command)
    monkeypatch.setattr(hosts, "_initialize", lambda *_, **__: pytest.fail("joined"))
    hosts.join(None, given)


@pytest.mark.parametrize(("first", "joined"), [(None, [1]), (1, [])])
def test_only_the_first_start_of_a_command_joins(first, joined, monkeypatch):
    """A sweep starts alone, and so do its runs; a model that is restored later joins nothing."""
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    calls = []
    monkeypatch.setattr(hosts, "_is_command", True)
    monkeypatch.setattr(hosts, "_initialize", lambda *_, **__: calls.append(1))
    for number in (first, None, None):
        hosts.join(None, number)
    assert calls == joined


@pytest.mark.parametrize(
    "coordinator", ["localhost", "localhost:", ":1234", "localhost:x", "host:99999", "::1:1234", ""]
)
def test_coordinator_without_host_and_port_is_refused(coordinator):
    with pytest.raises(UserError, match=r"^coordinator: .* is not accepted; address:port"):
        RunConfig(coordinator=coordinator).check()


def test_coordinator_without_the_number_of_processes_is_refused():
    with pytest.raises(UserError, match=r"^num_processes: missing with `coordinator` host:1234; "):
        hosts.join("host:1234", None)


@pytest.mark.parametrize("coordinator", ["localhost:1234", "10.0.0.1:65535", "[::1]:1234"])
def test_coordinator_with_host_and_port_is_accepted(coordinator):
    RunConfig(coordinator=coordinator).check()


def test_windows_is_refused_before_anything_is_changed(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    stderr = sys.stderr
    with pytest.raises(UserError, match=r"^num_processes: several processes need Linux or macOS"):
        hosts.join("localhost:1234", 2, 0)
    assert sys.stderr is stderr
