"""A benchmark of training steps and samplers, interleaved with the same work in PyTorch.

Each case runs in its own process. PyTorch is measured if it is installed (the `peers` extra):
eager, compiled and in bfloat16 under autocast, on the same batches and with the same work. An
interrupted benchmark resumes with the interrupted suite; benchmark.json has all rows.

Source    the sizes of the labs' reference presets
Command   python -m experiments.benchmark --platform=cpu
Expect    quick: smaller sizes, about 10 minutes on two idle cores; reference: more than an hour
"""

import dataclasses
import json
import sys
from collections.abc import Sequence

import tqdm

from jaxlabs.benchmark import format as formatting
from jaxlabs.benchmark import plots, timing
from jaxlabs.benchmark.suites import SUITES, Bench, LabUnderTest, matmul
from jaxlabs.config import ArgumentError, group, nearest, setting
from jaxlabs.labs.char_rnn import lab as char_rnn
from jaxlabs.labs.ddpm import lab as ddpm
from jaxlabs.labs.gpt import lab as gpt
from jaxlabs.labs.sparse_autoencoder import lab as sparse
from jaxlabs.labs.speech_classifier import lab as classifier
from jaxlabs.labs.speech_lm import lab as words
from jaxlabs.run_folder import RunFolder, renamed
from jaxlabs.runner.lab import Lab, Study, StudyResult
from jaxlabs.training import devices
from jaxlabs.training.run_config import CommonConfig

LABS = [lab.LAB for lab in (gpt, ddpm, char_rnn, words, classifier, sparse)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkRunConfig(CommonConfig):
    """Settings of the benchmark: suites, sizes and durations."""

    suite: str = setting("all", f"comma-separated suites of {', '.join(SUITES)}; or all")
    small: bool = setting(
        False, "smaller sizes if those of the reference take minutes", aliases=("reduced",)
    )
    torch_compile: bool = setting(
        True,
        "measure compiled PyTorch too; each case takes a minute",
        aliases=("compiled_peers",),
    )
    max_length: int = setting(
        65536,
        "maximum sequence length of window_attention",
        minimum=1024,
        maximum=2**20,
        aliases=("longest",),
    )
    measuring: timing.MeasuringConfig = group(timing.MeasuringConfig, section="measurement")

    def check(self) -> None:
        super().check()
        for name in self.suites():
            if name not in SUITES:
                accepted = f"one of {', '.join(SUITES)}, or all{nearest(name, SUITES)}"
                raise ArgumentError("suite", f"{name!r} is not accepted; {accepted}")

    def suites(self) -> list[str]:
        """Returns the names of the suites to measure."""
        return list(SUITES) if self.suite == "all" else self.suite.split(",")


PRESETS = {
    "quick": {
        "small": True,
        "torch_compile": False,
        "max_length": 16384,
        "repeats": 3,
        "max_seconds": 3.0,
        "timeout": 120.0,
    },
    "reference": {},
}


def measure(config: BenchmarkRunConfig, folder: RunFolder) -> StudyResult:
    """Measures suite by suite; suites that an earlier process finished are not repeated."""
    bench = Bench(
        labs={lab.name: _lab_under_test(lab, config.data_dir) for lab in LABS},
        platform=devices.describe()["platform"],
        small=config.small,
        torch_compile=config.torch_compile,
        max_length=config.max_length,
    )
    if not bench.has_pytorch:
        print(_no_pytorch_reason(bench), file=sys.stderr)
    path = folder.path / "benchmark.json"
    stored = []
    if path.exists():
        hint = "remove it to measure again"
        stored = folder.read_json(path.name, timing.check_rows, hint, renamed.benchmark)["rows"]
    rows = [row for row in stored if row["suite"] != "matmul"]
    finished = {row["suite"] for row in rows}
    suites = [SUITES[name](bench) for name in config.suites() if name not in finished]
    # Every process measures the peak matmul rate again, as the reference of its own rows.
    suites = [matmul(bench), *suites]
    count, limits = sum(len(one) for groups in suites for one in groups), []
    with tqdm.tqdm(total=count, unit="case", disable=None, file=sys.stderr) as bar:
        for groups in suites:
            measured = [row for one in groups for row in _measure_group(one, config, bar)]
            limits = limits or measured
            compared = timing.compare([*limits, *measured])[len(limits) :]
            bar.write(formatting.table(compared), file=sys.stderr)
            rows = [*rows, *compared] if measured is not limits else [*compared, *rows]
            folder.write_text(path, json.dumps({"rows": rows}, indent=2) + "\n")
    formatting.write_arrays(rows, folder)
    text = f"{formatting.table(rows)}\n\n{formatting.LEGEND}"
    return StudyResult(formatting.metrics(rows), text)


def _measure_group(
    cases: Sequence[timing.Case], config: BenchmarkRunConfig, bar: tqdm.tqdm
) -> list[timing.Row]:
    def advance(case: timing.Case) -> None:
        description = f"{case.suite}, {case.variant}: {case.name}"
        bar.set_description(description)
        bar.update()
        if bar.disable:  # no terminal: plain lines
            print(description, file=sys.stderr)

    return timing.measure_group(cases, config.measuring, advance)


def _lab_under_test(lab: Lab, data_dir: str | None) -> LabUnderTest:
    settings = dict(lab.presets["reference"]) | {"data_dir": data_dir}
    return LabUnderTest(lab.config_class.from_flat(settings), lab.build_task, lab.load_data)


def _no_pytorch_reason(bench: Bench) -> str:
    if bench.platform != "cpu":
        return f"PyTorch is measured on CPUs only, not on {bench.platform}: measuring jaxlabs only"
    return "PyTorch is not installed (pip install '.[peers]'): measuring jaxlabs only"


STUDY = Study(
    name="benchmark",
    description=__doc__,
    config_class=BenchmarkRunConfig,
    presets=PRESETS,
    measure=measure,
    plots={
        "benchmark_ratios": plots.ratios,
        "window_attention": plots.window_attention,
    },
)
