"""A process that times one piece of work when it is told to, and the parent's end of the line.

Rivals are measured in turns, A B A B, each in a process of its own, so that what slows the machine
down meets them all, and neither one's threads nor its memory stand in the other's way. Parent and
worker exchange lines of JSON over the worker's standard input and output:

    parent: what to do, a pickled `Job` in base 64      worker: {"ready": true, ...}
    parent: {"calls": 3}                                worker: {"seconds": 0.12}
    parent: {"end": true}                               worker: {"peak_memory_bytes": ...}

What goes wrong in a worker comes back as {"error": "one line"}. A worker whose parent is gone reads
the end of its input and ends as well.
"""

import base64
import contextlib
import dataclasses
import functools
import importlib
import json
import os
import pickle
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxlabs.training import memory

MODULE = "jaxlabs.analysis.benchmark.worker"


@dataclasses.dataclass(frozen=True)
class Work:
    """What is timed, made inside the worker.

    Attributes:
      run: does the work once and returns when its results are there.
      repeat: does it so many times, where that is not `run` over and over.
      units: how many of what is counted (steps, tokens) one call does.
      flops: floating-point operations of one unit, where they are known.
      warm_up: what runs before the first timed call in place of `run`, where that takes long.
      figures: further figures, asked for after the last call.
    """

    run: Callable[[], Any]
    repeat: Callable[[int], Any] | None = None
    units: int = 1
    flops: float | None = None
    warm_up: Callable[[], Any] | None = None
    figures: Callable[[], dict[str, float]] = dict


@dataclasses.dataclass(frozen=True)
class Job:
    """How a worker makes its work.

    Attributes:
      build: makes the work; pickled by its name, so it is a function of a module, or a partial one.
      package: imported first, so that its memory can be told from the work's.
      environment: variables of the worker's process.
    """

    build: Callable[[], Work]
    package: str
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


class WorkerError(Exception):
    """What a worker says went wrong, in one line."""


class Worker:
    """The parent's end: starts the process, asks, and ends it whatever happens.

    Args:
      job: what to time.
      limit: seconds after which an answer is no longer waited for.
    """

    def __init__(self, job: Job, timeout: float):
        self._limit = timeout
        paths = os.pathsep.join(path for path in [os.getcwd(), *sys.path] if path)
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-m", MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "PYTHONPATH": paths, **job.environment},
            encoding="utf-8",
            start_new_session=True,  # its own children end with it, see `close`
        )
        self._write(base64.b64encode(pickle.dumps(job)).decode())

    def ask(self, question: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Returns the answer to a question; None: whether the worker is ready.

        Raises:
          WorkerError: something went wrong there, or took longer than the limit.
        """
        if question is not None:
            self._write(json.dumps(question))
        if not select.select([self._process.stdout], [], [], self._limit)[0]:
            raise WorkerError(f"no answer within {self._limit:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def close(self) -> None:
        """Ends the process and those that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.stdout.close()
        self._errors.close()

    def _write(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):  # the next answer says what happened
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def _last_words(self) -> str:
        status = self._process.wait()
        self._errors.seek(0)
        said = [line.strip() for line in self._errors if line.strip()]
        cause = f"signal {-status}" if status < 0 else f"status {status}"
        return f"the process ended with {cause}" + (f": {said[-1][:200]}" if said else "")


def serve() -> None:
    """Reads a job and then questions from standard input until it ends."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever libraries print

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

    memory.configure_malloc()  # as every command does, and the settings too
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
        question = json.loads(line)
        if "end" in question:
            held = {"peak_memory_bytes": peak_memory(), "base_memory_bytes": base}
            yield held | {"figures": work.figures()}
            return
        calls = question["calls"]
        repeat = work.repeat or functools.partial(_over_and_over, work.run)
        seconds = _seconds(functools.partial(repeat, calls))
        yield {"seconds": seconds / (calls * work.units)}


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _over_and_over(run: Callable[[], Any], calls: int) -> None:
    for _ in range(calls):
        run()


def peak_memory() -> int:
    """Returns the most bytes that this process has held in memory at once.

    Linux counts what a process held before it became another program into `ru_maxrss`, and so a
    child of a large parent looks large. The status file counts the program alone.
    """
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    # Pickles name the classes of the imported module, not those of `__main__`.
    importlib.import_module(MODULE).serve()
