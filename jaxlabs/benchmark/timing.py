"""Measures cases with interleaved timing and compares them.

A suite is a list of groups. The cases of a group do the same work on the same shapes and are timed
in alternation. A `Row` is the result of one case.
"""

import contextlib
import dataclasses
import math
import os
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import psutil

from jaxlabs.benchmark.worker import Job, Work, Worker, WorkerError
from jaxlabs.config import Config, positive, setting

FLOAT32, BFLOAT16, FLOAT64 = "float32", "bfloat16", "float64"

CLASSES = {"highest": FLOAT32, "bfloat16": BFLOAT16}
"""Our precisions -> the PyTorch dtype of the same precision. `default` has none: it is measured on
accelerators only, where it is less than float32, such as TF32."""

OURS = "jaxlabs"

PACKAGES = {OURS: "jax", "pytorch": "torch", "numpy": "scipy.optimize"}

MIN_REPEATS = 2

MAX_MEMORY = 0.75
"""Fraction of the free memory that a case may need; one that needs more is skipped, before the
out-of-memory killer ends some process."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuringConfig(Config):
    """Duration of the measurements."""

    repeats: int = positive(
        5, "timed repeats of each case, interleaved", maximum=1000, aliases=("rounds",)
    )
    max_seconds: float = setting(
        60.0,
        "seconds of timing after which a case with two repeats is done",
        above=0,
        maximum=1e6,
        aliases=("seconds",),
    )
    timeout: float = setting(
        900.0,
        "timeout of one answer in seconds, including compilation",
        above=0,
        maximum=1e6,
        aliases=("limit",),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One case to measure."""

    suite: str  #: name of the suite
    variant: str  #: name of the group in the suite
    framework: str  #: a key of PACKAGES
    precision: str  #: "highest", "default", "bfloat16", or a dtype
    build: Callable[[], Work]  #: builds the workload in the worker, see `Job`
    unit: str  #: unit of work that the seconds refer to
    size: str  #: description of the sizes, with the reduced ones
    mode: str = "compiled"  #: execution mode of the framework
    expected_bytes: float = 0.0  #: expected memory, if known to be large
    #: environment variables of the worker
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    skipped: str = ""  #: why it is not measured; empty if it is

    @property
    def name(self) -> str:
        """Name of the case within its group."""
        return f"{self.framework} {self.mode} {self.precision}"


NAMES = ("suite", "variant", "framework", "mode", "precision", "unit", "size")
MEASURED = ("seconds", "compile_seconds", "peak_memory_bytes", "base_memory_bytes")
COMPARED = ("flops_per_second", "matmul_flops_per_second", "matmul_fraction")
COMPARED += ("ratio_to_best_peer", "ratio_to_best_peer_any")
FURTHER = ("precision_class", "repeats", "metrics", "skipped")

Row = dict[str, Any]
"""A row of benchmark.json: `suite`, `variant`, `framework`, `mode`, `precision`, `precision_class`,
`unit`, `size`, `skipped` (why there are no measurements, or empty); `seconds` per unit (median of
`repeats`), `compile_seconds` (extra time of the first call), `peak_memory_bytes` of the process and
`base_memory_bytes` after the import of its package, `flops_per_second`, `matmul_flops_per_second`
(peak matmul rate in the same precision class, any framework, same run), `matmul_fraction` (their
ratio), `ratio_to_best_peer` (seconds relative to the fastest peer of the same precision class),
`ratio_to_best_peer_any`, and `metrics` of the workload."""


def measure_group(
    group: Sequence[Case],
    config: MeasuringConfig,
    progress: Callable[[Case], None] = lambda case: None,
) -> list[Row]:
    """Measures cases with interleaved timing and returns their rows in order.

    `progress` is called for every case once it is ready or has failed.
    """
    rows = {case.name: _empty_row(case) for case in group}
    times: dict[str, list[float]] = {}
    calls: dict[str, int] = {}
    with workers() as start:
        ready = {}
        for case in group:
            row = rows[case.name]
            row["skipped"] = case.skipped or _too_large(case)
            if not row["skipped"]:
                job = Job(case.build, PACKAGES[case.framework], case.environment)
                with _record_failure(row):
                    worker = start(job, config.timeout)
                    answer = worker.ask()
                    ready[case.name], times[case.name] = worker, []
                    calls[case.name] = _calls(answer["warm_seconds"], config)
                    row |= {"compile_seconds": answer["compile_seconds"]}
                    row |= {"units": answer["units"], "flops": answer["flops"]}
            progress(case)
        for _ in range(config.repeats):
            for name, worker in list(ready.items()):
                spent = sum(times[name]) * calls[name] * rows[name]["units"]
                if len(times[name]) >= MIN_REPEATS and spent >= config.max_seconds:
                    continue
                with _record_failure(rows[name], lambda name=name: ready.pop(name)):
                    times[name].append(worker.ask({"calls": calls[name]})["seconds"])
        for name, worker in ready.items():
            with _record_failure(rows[name]):
                rows[name] |= worker.ask({"end": True})
                rows[name] |= {"repeats": times[name], "seconds": statistics.median(times[name])}
    # All cases of a group are compared by the same operation count.
    flops = next((row["flops"] for row in rows.values() if row.get("flops")), None)
    for row in rows.values():
        row.pop("flops", None)
        row.pop("units", None)
        if flops and row["seconds"]:
            row["flops_per_second"] = flops / row["seconds"]
    return list(rows.values())


def _empty_row(case: Case) -> Row:
    row = {name: getattr(case, name) for name in NAMES}
    row["precision_class"] = CLASSES.get(case.precision, case.precision)
    return row | dict.fromkeys(MEASURED + COMPARED) | {"repeats": [], "metrics": {}, "skipped": ""}


def check_rows(content: Any) -> None:
    """Raises ValueError with the reason unless `content` is valid for benchmark.json."""
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise ValueError("not an object with rows")
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not {*NAMES, *MEASURED, *COMPARED, *FURTHER} <= row.keys():
            raise ValueError(f"row {number} lacks an entry")
        kinds = dict.fromkeys(NAMES, str) | {"precision_class": str, "skipped": str}
        kinds |= {"metrics": dict} | dict.fromkeys(COMPARED, int | float | None)
        kinds |= dict.fromkeys(MEASURED, int | float | None if row["skipped"] else int | float)
        for name, kind in kinds.items():
            if not isinstance(row[name], kind):
                raise ValueError(f"row {number} has {name!r} of the wrong type")


def _too_large(case: Case) -> str:
    free = psutil.virtual_memory().available
    if case.expected_bytes <= MAX_MEMORY * free:
        return ""
    wanted = f"needs about {case.expected_bytes / 2**30:.0f} GiB of memory"
    return f"{wanted}; {free / 2**30:.0f} GiB are free"


def _calls(warm_seconds: float | None, config: MeasuringConfig) -> int:
    """Returns the calls per repeat that fill the time of one case."""
    if warm_seconds is None:  # unknown, because it is long
        return 1
    share = config.max_seconds / config.repeats
    return max(1, min(1000, int(share / max(warm_seconds, 1e-6))))


@contextlib.contextmanager
def _record_failure(row: Row, give_up: Callable[[], Any] = lambda: None) -> Iterator[None]:
    """Records the failure of one case in its row; the others continue."""
    try:
        yield
    except WorkerError as error:
        row["skipped"] = str(error)
        give_up()


@contextlib.contextmanager
def workers() -> Iterator[Callable[[Job, float], Worker]]:
    """Starts workers and terminates them at exit, also after an interruption."""
    with contextlib.ExitStack() as stack:

        def start(job: Job, timeout: float) -> Worker:
            worker = Worker(job, timeout)
            stack.callback(worker.close)
            return worker

        yield start


def why_no_compiler() -> str:
    """Returns why `torch.compile` is not available, or an empty string."""
    compiler = os.environ.get("CXX", "g++")
    found = shutil.which(compiler) or shutil.which("clang++")
    return "" if found else "torch.compile needs a C++ compiler; none found"


def compare(rows: Sequence[Row]) -> list[Row]:
    """Returns rows with their ratios to the best peers and to the peak rate of `matmul`."""
    rates: dict[str, float] = {}
    rows = [row | {"precision_class": _effective_dtype(row)} for row in rows]
    for row in rows:
        if row["suite"] == "matmul" and row["flops_per_second"]:
            kind = row["precision_class"]
            rates[kind] = max(rates.get(kind, 0.0), row["flops_per_second"])
    return [row | _ratios(row, rows, rates) for row in rows]


def _effective_dtype(row: Row) -> str:
    """Returns the precision class of a row: `bfloat16` may have resolved to float32."""
    return FLOAT32 if row["metrics"].get("bfloat16_matmuls") == 0 else row["precision_class"]


def _ratios(row: Row, rows: Sequence[Row], rates: Mapping[str, float]) -> Row:
    peers = [
        peer
        for peer in rows
        if (peer["suite"], peer["variant"]) == (row["suite"], row["variant"])
        and peer["framework"] != OURS
        and peer["seconds"]
    ]
    same_class = [peer for peer in peers if peer["precision_class"] == row["precision_class"]]
    rate, achieved = rates.get(row["precision_class"]), row["flops_per_second"]
    return {
        "ratio_to_best_peer": _ratio(row, same_class),
        "ratio_to_best_peer_any": _ratio(row, peers),
        "matmul_flops_per_second": rate,
        "matmul_fraction": achieved / rate if achieved and rate else None,
    }


def _ratio(row: Row, peers: Sequence[Row]) -> float | None:
    best = min((peer["seconds"] for peer in peers), default=math.inf)
    return row["seconds"] / best if row["seconds"] and math.isfinite(best) else None
