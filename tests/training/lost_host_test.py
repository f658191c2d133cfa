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

# Two processes that exchange a number in a loop, or cannot connect.
WORKER = """
import sys, time
from jaxlabs.config import UserError
from jaxlabs.training import devices, hosts

address, number, wait, exchange = sys.argv[1], *map(int, sys.argv[2:])
hosts.JOIN_SECONDS = wait
try:
    hosts.join(address, 2, number, wait)
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


def start(where, number, *, wait=120, exchange=True):
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, where, *map(str, (number, wait, int(exchange)))],
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("killed", "exchange"), [(0, True), (1, True), (0, False)])
def test_process_that_loses_another_exits_with_one_line(killed, exchange, free_port):
    where = f"localhost:{free_port()}"
    processes = [start(where, number, exchange=exchange) for number in range(2)]
    try:
        for process in processes:
            while process.stdout.readline() not in ("joined\n", ""):
                pass  # messages of Gloo
        time.sleep(1)
        began = time.monotonic()
        processes[killed].send_signal(signal.SIGKILL)
        _, error = processes[1 - killed].communicate(timeout=120)
        assert time.monotonic() - began < 60
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert processes[1 - killed].returncode == hosts.STATUS
    lost = f"process {1 - killed} of 2: another process of the run was lost; restart all of them"
    assert error.startswith(lost)
    assert error.count("\n") == 1


@pytest.mark.parametrize("number", [0, 1])
def test_processes_that_cannot_connect_give_one_line(number, free_port):
    where = f"localhost:{free_port()}"
    process = start(where, number, wait=2)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert error == (
        f"--coordinator: the 2 processes of the run could not connect to {where} within 2 s; start"
        " all of them, with the address and a free port of process 0\n"
    )


@pytest.mark.parametrize(
    "coordinator", ["localhost", "localhost:", ":1234", "localhost:x", "host:99999", "::1:1234", ""]
)
def test_coordinator_without_host_and_port_is_refused(coordinator):
    with pytest.raises(UserError, match=r"^coordinator: .* is not accepted; address:port"):
        RunConfig(coordinator=coordinator).check()


@pytest.mark.parametrize("coordinator", ["localhost:1234", "10.0.0.1:65535", "[::1]:1234"])
def test_coordinator_with_host_and_port_is_accepted(coordinator):
    RunConfig(coordinator=coordinator).check()


def test_windows_is_refused_before_anything_is_changed(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    stderr = sys.stderr
    with pytest.raises(UserError, match=r"^num_processes: several processes need Linux or macOS"):
        hosts.join("localhost:1234", 2, 0)
    assert sys.stderr is stderr
