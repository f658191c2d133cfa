"""Signals: raised in a command, deferred in training, and handled at once outside."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from jaxlabs.training import signals
from jaxlabs.training.signals import Interrupted

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(signals.__file__)))
BOTH = [signal.SIGINT, signal.SIGTERM]


def handlers():
    return [signal.getsignal(number) for number in BOTH]


@pytest.mark.parametrize("number", BOTH)
def test_signal_is_raised_in_a_command_and_the_handlers_are_restored(number):
    before = handlers()
    with pytest.raises(Interrupted) as caught, signals.listening():
        signal.raise_signal(number)
    assert caught.value.status == 128 + number
    assert str(caught.value) == "interrupted; run the same command to resume"
    assert handlers() == before


@pytest.mark.parametrize("number", BOTH)
def test_signal_in_training_is_deferred(number):
    with signals.listening(), signals.deferred() as stop:
        assert not stop()
        signal.raise_signal(number)
        assert stop()
        signal.raise_signal(signal.SIGTERM)  # schedulers send it repeatedly
        assert signals.requested() == number


def test_signal_missed_by_training_is_raised_after_it():
    def train():
        with signals.deferred() as stop:
            assert not stop()
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted), signals.listening():
        train()


def test_other_threads_neither_listen_nor_leave_a_listener():
    entered, left = threading.Barrier(2), threading.Event()
    before, found = (handlers(), sys.unraisablehook), []

    def first():
        with signals.listening():
            entered.wait()
        left.set()

    def second():
        with signals.listening(), signals.deferred() as stop:
            entered.wait()
            left.wait()
            found.append((stop(), signals.requested()))

    with signals.listening(), signals.deferred() as stop:
        signal.raise_signal(signal.SIGTERM)
        threads = [threading.Thread(target=work) for work in (first, second)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [(False, None)]
        assert stop()
    assert (handlers(), sys.unraisablehook) == before
    assert signals.requested() is None
    with signals.deferred() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop()


def test_second_ctrl_c_is_handled_by_the_previous_handler():
    with signals.deferred() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop()
        with pytest.raises(KeyboardInterrupt) as caught:
            signal.raise_signal(signal.SIGINT)
    assert not isinstance(caught.value, Interrupted)


@pytest.mark.parametrize("number", BOTH)
def test_interruption_swallowed_by_a_callback_is_raised_again(number, capsys):
    class Dying:
        def __del__(self):  # exceptions raised here are printed and dropped
            signal.raise_signal(number)

    def work():
        Dying()
        for _ in range(200):
            time.sleep(0.05)

    with pytest.raises(Interrupted) as caught, signals.listening():
        work()
    assert caught.value.number == number
    assert capsys.readouterr().err == ""


def test_interruption_message_has_its_place():
    with pytest.raises(Interrupted) as caught, signals.during("in the run a=1"):
        raise Interrupted(signal.SIGTERM, "at step 3/4, checkpoint saved")
    assert str(caught.value) == (
        "interrupted in the run a=1, at step 3/4, checkpoint saved; run the same command to resume"
    )
    assert caught.value.number == signal.SIGTERM


# One C call that takes minutes and releases the GIL, as a compilation does.
LONG_CALL = """
import hashlib, sys
from jaxlabs.training import signals

signals.guard()
signals.PATIENCE = 0.2
with signals.{phase}:
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


def ended(process, numbers):
    """Sends signals to a process after its first line; returns its status and stderr."""
    assert process.stdout.readline() == "ready\n"
    for number in numbers:
        time.sleep(0.3)  # it is inside the call; equal signals in quick succession would be merged
        process.send_signal(number)
    _, error = process.communicate(timeout=60)
    return process.returncode, error


@pytest.mark.parametrize(
    ("phase", "numbers"),
    [
        ("listening()", [signal.SIGINT]),
        ("listening()", [signal.SIGTERM]),
        ("deferred()", [signal.SIGINT, signal.SIGINT]),
        ("deferred()", [signal.SIGTERM, signal.SIGINT]),
    ],
)
def test_command_in_a_long_c_call_exits_with_one_line(phase, numbers):
    process = subprocess.Popen(
        [sys.executable, "-c", LONG_CALL.format(phase=phase)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ended(process, numbers) == (
        128 + numbers[-1],
        "interrupted; run the same command to resume\n",
    )


@pytest.mark.parametrize("number", BOTH)
def test_command_during_its_imports_exits_with_one_line(tmp_path, number):
    (tmp_path / "jax.py").write_text("import time\nprint('ready', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "experiments.gpt"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), ROOT])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert ended(process, [number]) == (
        128 + number,
        "interrupted; run the same command to resume\n",
    )


def test_importing_a_lab_keeps_the_handlers():
    before = handlers()
    subprocess.run(
        [
            sys.executable,
            "-c",
            "import signal, experiments;assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL",
        ],
        cwd=ROOT,
        check=True,
    )
    assert handlers() == before
