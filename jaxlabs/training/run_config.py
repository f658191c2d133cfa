"""The settings that every command has, and those of every run."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from jaxlabs import paths
from jaxlabs.config import RUNTIME, Config, UserError, differences, group, path_settings, setting
from jaxlabs.training.optimizers import OptimizerConfig, build_schedule

MACHINE = ("platform", "coordinator", "num_processes", "process_id")
"""Settings of the machine at hand, which whoever reads a run later does not take over."""

CONTENTS = ("sha256", "classes", "whitened")
"""What is known of a data set by which two are told apart; names and places do not matter."""

OTHER_CONTENTS = "the data set's contents"


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommonConfig(Config):
    """Settings of every command, whether it trains or not."""

    seed: int = setting(0, "seed of everything random", minimum=0, maximum=2**32 - 1)
    platform: str = setting(
        "auto",
        "where to run; auto: an accelerator if there is one, else the CPU",
        choices=("auto", "cpu", "gpu", "tpu"),
        kind=RUNTIME,
    )
    workdir: str | None = setting(
        None, "run folder; none: runs/<experiment>-<preset>", kind=RUNTIME
    )
    data_dir: str | None = setting(
        None,
        "where data sets lie; none: $JAXLABS_DATA_DIR, else ~/.cache/jaxlabs",
        kind=RUNTIME,
        path_unless=(),
    )

    def check(self) -> None:
        if self.workdir == "":
            raise UserError("--workdir: '' is not accepted; a folder, new or of a run, or none")
        for name, path in path_settings(type(self), self.flat()).items():
            paths.local(path, f"--{name}")
        if self.workdir is not None:
            paths.local(self.workdir, "--workdir")

    def seeds_from(self, count: int) -> list[int]:
        """Returns as many seeds, the first of which is that of the command line."""
        return [(self.seed + number) % 2**32 for number in range(count)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuiteConfig(CommonConfig):
    """Settings of a command that carries out others; each of these has its own preset."""

    labs: str = setting("all", "which ones, with commas between, or all", kind=RUNTIME)
    seeds: int = setting(
        1, "runs of each, with the seeds from --seed on", minimum=1, maximum=10_000, kind=RUNTIME
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(CommonConfig):
    """Settings common to all runs; each lab adds its model's as a nested group."""

    dataset: str = setting("", "name of a data set, or path to a file of the user's own")
    steps: int = setting(1000, "optimizer steps", minimum=0)
    batch_size: int = setting(64, "examples per step, over all devices together", minimum=1)
    eval_batch_size: int = setting(64, "examples per evaluation batch", minimum=1)
    optimization: OptimizerConfig = group(OptimizerConfig)

    sample_seed: int = setting(
        0, "seed of what --mode=sample draws", minimum=0, maximum=2**32 - 1, kind=RUNTIME
    )
    log_every: int = setting(10, "steps between rows of metrics.jsonl", minimum=1, kind=RUNTIME)
    eval_every: int = setting(250, "steps between evaluations", minimum=1, kind=RUNTIME)
    checkpoint_every: int = setting(250, "steps between checkpoints", minimum=1, kind=RUNTIME)
    keep_checkpoints: int = setting(
        2, "latest checkpoints to keep; the best one is kept as well", minimum=1, kind=RUNTIME
    )
    steps_per_call: int = setting(
        200,
        "most steps in one compiled call; a call also ends after about three seconds",
        minimum=1,
        maximum=1_000_000,
        kind=RUNTIME,
    )
    tensorboard: bool = setting(False, "also write TensorBoard event files", kind=RUNTIME)
    profile: bool = setting(False, "also write a profiler trace of a few steps", kind=RUNTIME)
    coordinator: str | None = setting(
        None, "address:port of process 0 in a run of several processes", kind=RUNTIME
    )
    num_processes: int = setting(1, "processes in the run", minimum=1, kind=RUNTIME)
    process_id: int = setting(0, "number of this process, from 0", minimum=0, kind=RUNTIME)

    def check(self) -> None:
        super().check()
        build_schedule(self.optimization, self.steps)  # says so if its parts do not fit
        if self.num_processes > 1 and self.coordinator is None:
            raise UserError(
                f"--coordinator: missing with --num_processes {self.num_processes}; address:port of"
                " process 0"
            )
        if self.coordinator is not None and not _is_address(self.coordinator):
            raise UserError(
                f"--coordinator: {self.coordinator!r} is not accepted; address:port, such as"
                " localhost:1234 or [::1]:1234"
            )
        if self.process_id >= self.num_processes:
            raise UserError(
                f"--process_id: {self.process_id} is not accepted; below --num_processes"
                f" {self.num_processes}"
            )


def differing(
    config_class: type[Config], stored: Mapping[str, Any], present: Mapping[str, Any]
) -> list[str]:
    """Returns in words in what two runs differ that could change the result.

    A data set counts by its contents where both runs know them: a path can be spelled in many
    ways, and files move.

    Args:
      config_class: settings of both.
      stored: a run's `settings` and, if it has one, `dataset`, as in its config.json.
      present: the same of what it is compared with.
    """
    found = differences(config_class, stored["settings"], present["settings"])
    old, new = (run.get("dataset") or {} for run in (stored, present))
    if "sha256" in old and "sha256" in new:
        found.pop("dataset", None)
    words = [f"{name} ({there} there, {here} here)" for name, (there, here) in found.items()]
    contents = [name for name in CONTENTS if name in old and name in new]
    if any(old[name] != new[name] for name in contents):
        words.append(OTHER_CONTENTS)
    return words


def _is_address(text: str) -> bool:
    """Tells whether this is host:port, the host of IPv6 in brackets."""
    parts = re.fullmatch(r"(?:[^\s:/\[\]]+|\[[\da-fA-F:.]+(?:%\w+)?\]):(\d{1,5})", text, re.ASCII)
    return parts is not None and 0 < int(parts[1]) < 2**16
