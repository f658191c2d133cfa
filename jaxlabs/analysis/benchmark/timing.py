"""Measures cases in turns, and sets what they took against each other.

A suite is a list of groups; what stands in a group does the same work on the same shapes and is
measured in turns. A row is what one rival took, see `Row`.
"""

import contextlib
import dataclasses
import math
import os
import shutil
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jaxlabs.analysis.benchmark.worker import Job, Work, Worker, WorkerError
from jaxlabs.config import Config, setting

FLOAT32, BFLOAT16, FLOAT64 = "float32", "bfloat16", "float64"

CLASSES = {"highest": FLOAT32, "default": FLOAT32, "bfloat16": BFLOAT16}
"""Which of PyTorch's dtypes our precisions are to be compared with, on a CPU."""

OURS = "jaxlabs"

PACKAGES = {OURS: "jax", "pytorch": "torch", "numpy": "scipy.optimize"}

MIN_ROUNDS = 2

MAX_MEMORY = 0.75
"""Share of the free memory that a rival may be expected to take; one that wants more is left out,
before the operating system ends whatever it likes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuringConfig(Config):
    """How long to measure."""

    repeats: int = setting(
        5,
        "timed rounds of each rival, taken in turns",
        minimum=1,
        maximum=1000,
        aliases=("rounds",),
    )
    max_seconds: float = setting(
        60.0,
        "of timing after which a rival with two rounds has no further one",
        above=0,
        maximum=1e6,
        aliases=("seconds",),
    )
    timeout: float = setting(
        900.0,
        "seconds after which an answer is given up, compilation included",
        above=0,
        maximum=1e6,
        aliases=("limit",),
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A rival before it is measured.

    Attributes:
      suite: what is measured.
      variant: which of its groups.
      framework: a key of PACKAGES.
      mode: how the framework runs it.
      precision: a key of CLASSES, or one of their values.
      build: makes the work in the worker, see `Job`.
      unit: what the seconds are of.
      size: the sizes in words, and what was reduced.
      expected_bytes: memory that it will take, where that is known to be much.
      environment: variables of the worker's process.
      skipped: why it is not measured; empty: it is.
    """

    suite: str
    variant: str
    framework: str
    precision: str
    build: Callable[[], Work]
    unit: str
    size: str
    mode: str = "compiled"
    expected_bytes: float = 0.0
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    skipped: str = ""

    @property
    def name(self) -> str:
        """The rival in words."""
        return f"{self.framework} {self.mode} {self.precision}"


NAMES = ("suite", "variant", "framework", "mode", "precision", "unit", "size")
MEASURED = ("seconds", "compile_seconds", "peak_memory_bytes", "base_memory_bytes")
COMPARED = ("flops_per_second", "matmul_flops_per_second", "matmul_fraction")
COMPARED += ("ratio_to_best_peer", "ratio_to_best_peer_any")
FURTHER = ("precision_class", "rounds", "figures", "skipped")

Row = dict[str, Any]
"""What benchmark.json keeps of a rival: `suite`, `variant`, `framework`, `mode`, `precision`,
`precision_class`, `unit`, `size`, `skipped` (why there are no figures, or empty);
`seconds` of one unit (the median of `rounds`), `compile_seconds` (what the first call took longer
than the second), `peak_memory_bytes` of the whole process and `base_memory_bytes` of it with only
its package loaded, `flops_per_second`, `matmul_flops_per_second` (the best rate of a large dot in
the same precision class, of any framework, in the same run) and `matmul_fraction` of the two;
`ratio_to_best_peer` (seconds over those of the fastest peer of the same precision class) and
`ratio_to_best_peer_any`; `figures` that the work has of its own."""


def measure_group(
    group: Sequence[Case],
    config: MeasuringConfig,
    progress: Callable[[Case], None] = lambda variant: None,
) -> list[Row]:
    """Measures cases in turns and returns their rows, in the same order.

    Args:
      group: the cases.
      config: how long.
      progress: told of every rival that got ready, or will not.
    """
    rows = {variant.name: _empty_row(variant) for variant in group}
    times: dict[str, list[float]] = {}
    calls: dict[str, int] = {}
    with workers() as start:
        ready = {}
        for variant in group:
            row = rows[variant.name]
            row["skipped"] = variant.skipped or _too_large(variant)
            if not row["skipped"]:
                job = Job(variant.build, PACKAGES[variant.framework], variant.environment)
                with _record_failure(row):
                    worker = start(job, config.timeout)
                    answer = worker.ask()
                    ready[variant.name], times[variant.name] = worker, []
                    calls[variant.name] = _calls(answer["warm_seconds"], config)
                    row |= {"compile_seconds": answer["compile_seconds"]}
                    row |= {"units": answer["units"], "flops": answer["flops"]}
            progress(variant)
        for _ in range(config.repeats):
            for name, worker in list(ready.items()):
                spent = sum(times[name]) * calls[name] * rows[name]["units"]
                if len(times[name]) >= MIN_ROUNDS and spent >= config.max_seconds:
                    continue
                with _record_failure(rows[name], lambda name=name: ready.pop(name)):
                    times[name].append(worker.ask({"calls": calls[name]})["seconds"])
        for name, worker in ready.items():
            with _record_failure(rows[name]):
                rows[name] |= worker.ask({"end": True})
                rows[name] |= {"rounds": times[name], "seconds": statistics.median(times[name])}
    # A group is to be compared, so that all of it counts the operations that are needed.
    flops = next((row["flops"] for row in rows.values() if row.get("flops")), None)
    for row in rows.values():
        row.pop("flops", None), row.pop("units", None)
        if flops and row["seconds"]:
            row["flops_per_second"] = flops / row["seconds"]
    return list(rows.values())


def _empty_row(variant: Case) -> Row:
    row = {name: getattr(variant, name) for name in NAMES}
    row["precision_class"] = CLASSES.get(variant.precision, variant.precision)
    return row | dict.fromkeys(MEASURED + COMPARED) | {"rounds": [], "figures": {}, "skipped": ""}


def check_rows(content: Any) -> None:
    """Raises ValueError unless `content` is that of a benchmark.json, and says why."""
    rows = content.get("rows") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise ValueError("not an object with rows")
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not {*NAMES, *MEASURED, *COMPARED, *FURTHER} <= row.keys():
            raise ValueError(f"row {number} lacks an entry")
        kinds = dict.fromkeys(NAMES, str) | {"precision_class": str, "skipped": str}
        kinds |= {"figures": dict} | dict.fromkeys(COMPARED, int | float | None)
        kinds |= dict.fromkeys(MEASURED, int | float | None if row["skipped"] else int | float)
        for name, kind in kinds.items():
            if not isinstance(row[name], kind):
                raise ValueError(f"row {number} has a {name!r} of another type")


def _too_large(variant: Case) -> str:
    free = _free_memory()
    if free is None or variant.expected_bytes <= MAX_MEMORY * free:
        return ""
    wanted = f"would take about {variant.expected_bytes / 2**30:.0f} GiB of memory"
    return f"{wanted}; {free / 2**30:.0f} GiB are free"


def _free_memory() -> int | None:
    with contextlib.suppress(OSError), open("/proc/meminfo", encoding="ascii") as file:
        for line in file:
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return None


def _calls(warm_seconds: float | None, config: MeasuringConfig) -> int:
    """Returns how many calls fill one rival's share of the time, in each round."""
    if warm_seconds is None:  # nobody knows; it is long
        return 1
    share = config.max_seconds / config.repeats
    return max(1, min(1000, int(share / max(warm_seconds, 1e-6))))


@contextlib.contextmanager
def _record_failure(row: Row, give_up: Callable[[], Any] = lambda: None) -> Iterator[None]:
    """Lets a rival fail without the others; its row says why."""
    try:
        yield
    except WorkerError as error:
        row["skipped"] = str(error)
        give_up()


@contextlib.contextmanager
def workers() -> Iterator[Callable[[Job, float], Worker]]:
    """Starts workers that are ended whatever happens, an interruption included."""
    with contextlib.ExitStack() as stack:

        def start(job: Job, timeout: float) -> Worker:
            worker = Worker(job, timeout)
            stack.callback(worker.close)
            return worker

        yield start


def why_no_compiler() -> str:
    """Returns why `torch.compile` cannot work here, or an empty string."""
    compiler = os.environ.get("CXX", "g++")
    found = shutil.which(compiler) or shutil.which("clang++")
    return "" if found else "torch.compile needs a C++ compiler; there is none"


def compare(rows: Sequence[Row]) -> list[Row]:
    """Returns rows with their ratios to the best peers, and to the rate of the rows of `matmul`."""
    rates: dict[str, float] = {}
    rows = [row | {"precision_class": _effective_dtype(row)} for row in rows]
    for row in rows:
        if row["suite"] == "matmul" and row["flops_per_second"]:
            kind = row["precision_class"]
            rates[kind] = max(rates.get(kind, 0.0), row["flops_per_second"])
    return [row | _ratios(row, rows, rates) for row in rows]


def _effective_dtype(row: Row) -> str:
    """Returns the class that a row is to be judged in: `fast` may have come to float32."""
    return FLOAT32 if row["figures"].get("bfloat16_dots") == 0 else row["precision_class"]


def _ratios(row: Row, rows: Sequence[Row], rates: Mapping[str, float]) -> Row:
    peers = [
        peer
        for peer in rows
        if (peer["suite"], peer["variant"]) == (row["suite"], row["variant"])
        and peer["framework"] != OURS
        and peer["seconds"]
    ]
    alike = [peer for peer in peers if peer["precision_class"] == row["precision_class"]]
    rate, achieved = rates.get(row["precision_class"]), row["flops_per_second"]
    return {
        "ratio_to_best_peer": _ratio(row, alike),
        "ratio_to_best_peer_any": _ratio(row, peers),
        "matmul_flops_per_second": rate,
        "matmul_fraction": achieved / rate if achieved and rate else None,
    }


def _ratio(row: Row, peers: Sequence[Row]) -> float | None:
    best = min((peer["seconds"] for peer in peers), default=math.inf)
    return row["seconds"] / best if row["seconds"] and math.isfinite(best) else None
