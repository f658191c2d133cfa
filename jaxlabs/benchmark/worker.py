"""A worker process that times one workload on request, and its client in the parent.

Cases are timed in alternation (A B A B), each in its own process: a slowdown of the machine affects
all of them, and they share neither threads nor memory. Parent and worker exchange lines of JSON
over the worker's standard input and output:

    parent: a pickled `Job` in base 64      worker: {"ready": true, ...}
    parent: {"calls": 3}                    worker: {"seconds": 0.12}
    parent: {"end": true}                   worker: {"peak_memory_bytes": ...}

An error in a worker is returned as {"error": "one line"}. A worker whose parent has exited reads
the end of its input and exits.
"""

import base64
import contextlib
import dataclasses
import functools
import importlib
import json
import os
import pickle
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxlabs.training import malloc
from jaxlabs.training.memory import peak_memory

MODULE = "jaxlabs.benchmark.worker"


@dataclasses.dataclass(frozen=True)
class Work:
    """A workload, built inside the worker."""

    run: Callable[[], Any]  #: runs the workload once and waits for its results
    #: runs it a given number of times, if that is not `run` in a loop
    repeat: Callable[[int], Any] | None = None
    units: int = 1  #: units of work (steps, tokens) per call
    flops: float | None = None  #: floating-point operations per unit, if known
    #: replaces `run` before the first timed call if that takes long
    warm_up: Callable[[], Any] | None = None
    #: returns further metrics after the last call
    extra_metrics: Callable[[], dict[str, float]] = dict


@dataclasses.dataclass(frozen=True)
class Job:
    """How a worker builds its workload."""

    #: builds the workload; pickled by name, so a module-level function or a partial of one
    build: Callable[[], Work]
    package: str  #: imported first, to separate its memory from the workload's
    #: variables of the worker's process
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


class WorkerError(Exception):
    """The error of a worker, in one line."""


class Worker:
    """The parent's client: starts the process, sends requests, and terminates it.

    Args:
      job: the workload.
      timeout: seconds to wait for an answer.
    """

    def __init__(self, job: Job, timeout: float):
        self._timeout = timeout
        paths = os.pathsep.join(path for path in [os.getcwd(), *sys.path] if path)
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": paths, **job.environment},
            encoding="utf-8",
            start_new_session=True,  # `close` ends its children too
        )
        self._lines = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._write(base64.b64encode(pickle.dumps(job)).decode())

    def ask(self, request: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Returns the answer to a request; None asks whether the worker is ready.

        Raises:
          WorkerError: the worker failed or timed out.
        """
        if request is not None:
            self._write(json.dumps(request))
        try:
            line = self._lines.get(timeout=self._timeout)
        except queue.Empty:
            raise WorkerError(f"no answer within {self._timeout:g} s") from None
        if not line:
            raise WorkerError(self._exit_reason())
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def close(self) -> None:
        """Kills the process and its children."""
        with contextlib.suppress(ProcessLookupError):
            if sys.platform == "win32":  # it has no process groups
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()

    def _read(self) -> None:
        """Queues the answers; unlike a queue, a pipe of Windows has no timeout."""
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _write(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # the next answer has the error
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _exit_reason(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        cause = f"signal {-status}" if status < 0 else f"status {status}"
        return f"the process ended with {cause}" + (f": {lines[-1][:200]}" if lines else "")


def serve() -> None:
    """Reads a job and then requests from standard input until end of file."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answers:
        os.dup2(
            sys.stderr.fileno(), sys.stdout.fileno()
        )  # keep output of libraries off the protocol

        def answer(content: Mapping[str, Any]) -> None:
            answers.write(json.dumps(content) + "\n")
            answers.flush()

        try:
            for content in _answers():
                answer(content)
        except Exception as error:
            first_line = (str(error).strip().splitlines() or [""])[0]
            answer({"error": f"{type(error).__name__}: {first_line}"[:300]})


def _answers() -> Iterator[dict[str, Any]]:
    """Yields the answer to every line of standard input."""
    job: Job = pickle.loads(base64.b64decode(sys.stdin.readline()))
    importlib.import_module(job.package)
    if job.package != "jax":
        yield from _measured(job)
        return
    from jaxlabs.training import jax_settings  # imports JAX

    malloc.configure_malloc()  # as in every command
    with jax_settings.fixed():
        yield from _measured(job)


def _measured(job: Job) -> Iterator[dict[str, Any]]:
    base = peak_memory()
    work = job.build()
    first = _seconds(work.warm_up or work.run)
    again = _seconds(work.warm_up or work.run)
    warm = again if work.warm_up is None else None
    yield {
        "ready": True,
        "compile_seconds": max(first - again, 0.0),
        "warm_seconds": warm,
        "units": work.units,
        "flops": work.flops,
    }
    for line in sys.stdin:
        request = json.loads(line)
        if "end" in request:
            memory_bytes = {"peak_memory_bytes": peak_memory(), "base_memory_bytes": base}
            yield memory_bytes | {"metrics": work.extra_metrics()}
            return
        calls = request["calls"]
        repeat = work.repeat or functools.partial(_call_repeatedly, work.run)
        seconds = _seconds(functools.partial(repeat, calls))
        yield {"seconds": seconds / (calls * work.units)}


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _call_repeatedly(run: Callable[[], Any], calls: int) -> None:
    for _ in range(calls):
        run()


if __name__ == "__main__":
    # Pickles name the classes of the imported module, not those of `__main__`.
    importlib.import_module(MODULE).serve()
