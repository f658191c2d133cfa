"""How fast are the labs? Training steps and samplers, timed in turns with PyTorch's own modules.

Each rival runs in a process of its own. PyTorch is measured where it is installed (the `peers`
extra): eager, compiled and in bfloat16 under autocast, on the same batches and with the same work.
A stopped benchmark goes on with the suite in which it was stopped; benchmark.json has all rows.

Source    the sizes of the labs' reference presets
Command   python -m experiments.benchmark --platform=cpu
Expect    quick: smaller sizes, about 10 minutes on two idle cores; reference: more than an hour
"""

import dataclasses
import json
import sys
from collections.abc import Sequence

import tqdm

from experiments import char_rnn, ddpm, gpt
from experiments import sparse_autoencoder as sparse
from experiments import speech_classifier as classifier
from experiments import speech_lm as words
from jaxlabs import command
from jaxlabs.analysis.benchmark import format as formatting
from jaxlabs.analysis.benchmark import timing
from jaxlabs.analysis.benchmark.cases import Bench, LabUnderTest
from jaxlabs.analysis.benchmark.suites import SUITES, matmul
from jaxlabs.config import UserError, group, nearest, setting
from jaxlabs.lab import Lab, Study, StudyResult
from jaxlabs.run_folder import RunFolder
from jaxlabs.training import devices
from jaxlabs.training.run_config import CommonConfig

LABS = [lab.LAB for lab in (gpt, ddpm, char_rnn, words, classifier, sparse)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BenchmarkConfig(CommonConfig):
    """What to measure, how large, and for how long."""

    suite: str = setting("all", f"suites, with commas: {', '.join(SUITES)}; or all of them")
    small: bool = setting(
        False, "smaller sizes where the reference's take minutes", aliases=("reduced",)
    )
    compiled_peers: bool = setting(True, "also measure PyTorch compiled; each takes a minute")
    max_length: int = setting(
        65536,
        "tokens of the longest text in window_attention",
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
                raise UserError(f"--suite: {name!r} is not accepted; {accepted}")

    def suites(self) -> list[str]:
        """Returns the names of the suites to measure."""
        return list(SUITES) if self.suite == "all" else self.suite.split(",")


QUICK = {
    "small": True,
    "compiled_peers": False,
    "max_length": 16384,
    "repeats": 3,
    "max_seconds": 3.0,
}
QUICK |= {"timeout": 120.0}
PRESETS = {"quick": QUICK, "reference": {}}


def measure(config: BenchmarkConfig, folder: RunFolder) -> StudyResult:
    """Measures suite by suite; those that an earlier sitting has finished are not repeated."""
    bench = Bench(
        labs={lab.name: _subject(lab, config.data_dir) for lab in LABS},
        platform=devices.describe()["platform"],
        small=config.small,
        compiled_peers=config.compiled_peers,
        max_length=config.max_length,
    )
    if not bench.has_pytorch:
        print(_why_alone(bench), file=sys.stderr)
    path = folder.path / "benchmark.json"
    stored = []
    if path.exists():
        hint = "remove it to measure again"
        stored = folder.read_json(path.name, timing.check_rows, hint)["rows"]
    rows = [row for row in stored if row["suite"] != "matmul"]
    finished = {row["suite"] for row in rows}
    suites = [SUITES[name](bench) for name in config.suites() if name not in finished]
    # Every sitting measures the rate of a large dot anew: by it, its own rows are judged.
    suites = [matmul(bench), *suites]
    count, limits = sum(len(one) for groups in suites for one in groups), []
    with tqdm.tqdm(total=count, unit="rival", disable=None, file=sys.stderr) as bar:
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
    cases: Sequence[timing.Case], config: BenchmarkConfig, bar: tqdm.tqdm
) -> list[timing.Row]:
    def advance(rival: timing.Case) -> None:
        told = f"{rival.suite}, {rival.variant}: {rival.name}"
        bar.set_description(told)
        bar.update()
        if bar.disable:  # no terminal: plain lines
            print(told, file=sys.stderr)

    return timing.measure_group(cases, config.measuring, advance)


def _subject(lab: Lab, data_dir: str | None) -> LabUnderTest:
    settings = dict(lab.presets["reference"]) | {"data_dir": data_dir}
    return LabUnderTest(lab.config_class.from_flat(settings), lab.build_task, lab.load_data)


def _why_alone(bench: Bench) -> str:
    if bench.platform != "cpu":
        return f"PyTorch is measured on CPUs, not on {bench.platform}: ours is measured alone"
    return "PyTorch is not installed (pip install '.[peers]'): ours is measured alone"


STUDY = Study(
    name="benchmark",
    description=__doc__,
    config_class=BenchmarkConfig,
    presets=PRESETS,
    measure=measure,
)

if __name__ == "__main__":
    command.main(STUDY)
