"""The settings of every command, and those of every training run."""

import dataclasses
import os
import re
from collections.abc import Mapping
from typing import Any

from jaxlabs import paths
from jaxlabs.config import (
    RUNTIME,
    ArgumentError,
    Config,
    differences,
    group,
    path_settings,
    positive,
    setting,
)
from jaxlabs.data import tokenizer_base
from jaxlabs.training import sharding
from jaxlabs.training.optimizer_config import OptimizerConfig
from jaxlabs.training.schedules import build_schedule

EVAL_TOKENS = "eval_tokens"
"""A setting that `--mode=evaluate` may change."""

MACHINE = ("platform", "mesh", "coordinator", "num_processes", "process_id")
"""Settings of the machine, which later commands on the run do not inherit."""

CONTENTS = ("sha256", "classes", "whitened")
"""Keys of `DataModule.dataset` that identify a data set; names and paths do not matter."""

OTHER_CONTENTS = "the data set's contents"

LOGGING, DEVICES, PROCESSES = "logging and checkpoints", "devices", "multiple processes"
"""Headings of `--help`."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CommonConfig(Config):
    """Settings of every command."""

    seed: int = setting(0, "seed of all random numbers", minimum=0, maximum=2**32 - 1)
    platform: str = setting(
        "auto",
        "JAX platform; auto: an accelerator if available, else the CPU",
        choices=("auto", "cpu", "gpu", "tpu"),
        kind=RUNTIME,
    )
    workdir: str | None = setting(
        None, "run folder; none: runs/<lab>-<preset>, see the last line of the output", kind=RUNTIME
    )
    data_dir: str | None = setting(
        None,
        "folder of the data sets; none: $JAXLABS_DATA_DIR, else ~/.cache/jaxlabs",
        kind=RUNTIME,
        section="data",
        path_unless=(),
    )

    def check(self) -> None:
        if self.workdir == "":
            raise ArgumentError(
                "workdir", "'' is not accepted; a new folder, a run folder, or none"
            )
        for name, path in path_settings(type(self), self.flat()).items():
            paths.local(path, name)
        if self.workdir is not None:
            paths.local(self.workdir, "workdir")

    def seeds_from(self, count: int) -> list[int]:
        """Returns `count` consecutive seeds, from `--seed` on."""
        return [(self.seed + number) % 2**32 for number in range(count)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuiteConfig(CommonConfig):
    """Settings of a command that runs several labs, each with its own preset."""

    labs: str = setting("all", "names or files of labs, separated by commas, or all", kind=RUNTIME)
    seeds: int = setting(
        1,
        "number of runs of each lab, with consecutive seeds from --seed on",
        minimum=1,
        maximum=10_000,
        kind=RUNTIME,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig(CommonConfig):
    """Settings of every training run; each lab adds those of its model as a nested group.

    A lab with a choice of data sets declares `dataset` again; another one refuses it.
    """

    dataset: str = setting("", "name of a data set, or path of a file", section="data")
    steps: int = setting(1000, "number of optimizer steps", minimum=0, section="training")
    batch_size: int = setting(
        64, "examples per step, over all devices", minimum=1, section="training"
    )
    eval_batch_size: int = setting(
        64, "examples per evaluation batch", minimum=1, section="training"
    )
    optimization: OptimizerConfig = group(OptimizerConfig, section="optimizer")
    init_from: str | None = setting(
        None,
        "run folder, or safetensors file of --mode=export, whose parameters of the same names the"
        " training starts from; none: random ones",
        section="training",
        path_unless=(),
    )

    sample_seed: int = setting(
        0,
        "seed of --mode=sample",
        minimum=0,
        maximum=2**32 - 1,
        kind=RUNTIME,
        section="sampling",
    )
    log_every: int = setting(
        10, "steps between rows of metrics.jsonl", minimum=1, kind=RUNTIME, section=LOGGING
    )
    eval_every: int = setting(
        250, "steps between evaluations", minimum=1, kind=RUNTIME, section=LOGGING
    )
    checkpoint_every: int = setting(
        250, "steps between checkpoints", minimum=1, kind=RUNTIME, section=LOGGING
    )
    keep_checkpoints: int = setting(
        2,
        "number of latest checkpoints to keep, beside the best one",
        minimum=1,
        kind=RUNTIME,
        section=LOGGING,
    )
    steps_per_call: int = setting(
        200,
        "maximum number of steps per compiled call; a call also ends after about 3 seconds",
        minimum=1,
        maximum=1_000_000,
        kind=RUNTIME,
        section=LOGGING,
    )
    tensorboard: bool = setting(
        False, "whether to write TensorBoard event files", kind=RUNTIME, section=LOGGING
    )
    track: str = setting(
        "none",
        "a tracker that the metrics are mirrored to; trackio needs no account",
        choices=("none", "trackio"),
        kind=RUNTIME,
        section=LOGGING,
    )
    profile: bool = setting(
        False, "whether to write a profiler trace of a few steps", kind=RUNTIME, section=LOGGING
    )
    mesh: str | None = setting(
        None,
        "sizes of the axes of the device mesh, such as data:2,fsdp:2,tensor:2: data replicates the"
        " state, fsdp splits it, tensor splits attention and feed-forward; the batch is split over"
        " data and fsdp; none: all devices on data",
        kind=RUNTIME,
        section=DEVICES,
    )
    coordinator: str | None = setting(
        None,
        "address:port of process 0 in a multi-process run",
        kind=RUNTIME,
        section=PROCESSES,
    )
    num_processes: int | None = setting(
        None,
        "number of processes of the run; none: those that Slurm, Open MPI or a TPU pod has started,"
        " else 1",
        minimum=1,
        kind=RUNTIME,
        section=PROCESSES,
    )
    process_id: int = setting(
        0, "index of this process, from 0", minimum=0, kind=RUNTIME, section=PROCESSES
    )

    def check(self) -> None:
        super().check()
        if self.init_from is not None:  # absolute, to be resumed from any folder
            path = os.path.abspath(paths.local(self.init_from, "init_from"))
            object.__setattr__(self, "init_from", path)
        build_schedule(self.optimization, self.steps)  # raises for incompatible values
        if self.mesh is not None:
            sharding.parse_mesh(self.mesh)
        num_processes = self.num_processes or 1
        if num_processes > 1 and self.coordinator is None:
            raise ArgumentError(
                "coordinator",
                f"missing with `num_processes` {self.num_processes}; address:port of process 0",
            )
        if self.coordinator is not None and not _is_address(self.coordinator):
            raise ArgumentError(
                "coordinator",
                f"{self.coordinator!r} is not accepted; address:port, such as"
                " localhost:1234 or [::1]:1234",
            )
        if self.process_id >= num_processes:
            raise ArgumentError(
                "process_id",
                f"{self.process_id} is not accepted; below `num_processes` {num_processes}",
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextRunConfig(RunConfig):
    """Settings of a training run on a text; each lab adds its own."""

    eval_tokens: int | None = positive(
        None,
        "tokens that an evaluation of one part of the text reads at most, in evenly spaced windows;"
        " none: 500,000, so that a smaller part is read as a whole",
        section="evaluation",
    )


def has_data_choice(config_class: type[CommonConfig]) -> bool:
    """Returns whether a lab with these settings reads `dataset`, which it then declares itself."""
    declared = {field.name: field for field in dataclasses.fields(config_class)}
    inherited = {field.name: field for field in dataclasses.fields(RunConfig)}
    return declared.get("dataset") is not inherited["dataset"]


def differing(
    config_class: type[Config], stored: Mapping[str, Any], present: Mapping[str, Any]
) -> list[str]:
    """Returns the differences of two runs that can change the result, as text.

    Data sets are compared by contents where both are known, since files may be moved.

    Args:
      config_class: class of the settings of both.
      stored: `settings` and optionally `dataset` of a stored run, as in config.json.
      present: the same of the present run.
    """
    found = differences(config_class, stored["settings"], present["settings"])
    old, new = (run.get("dataset") or {} for run in (stored, present))
    if "sha256" in old and "sha256" in new:
        found.pop("dataset", None)
    tokenizers = {run.get(tokenizer_base.SHA256) for run in (old, new)}
    if len(tokenizers) == 1 and None not in tokenizers:  # its file may have been moved
        found.pop("tokenizer", None)
    other_tokenizer = len(tokenizers) == 2 and "tokenizer" not in found
    words = [f"{name} (stored {before}, given {now})" for name, (before, now) in found.items()]
    contents = [name for name in CONTENTS if name in old and name in new]
    if any(old[name] != new[name] for name in contents):
        words.append(OTHER_CONTENTS)
    if other_tokenizer:
        words.append("the tokenizer's contents")
    return words


def _is_address(text: str) -> bool:
    """Returns whether a text is host:port, with an IPv6 host in brackets."""
    parts = re.fullmatch(r"(?:[^\s:/\[\]]+|\[[\da-fA-F:.]+(?:%\w+)?\]):(\d{1,5})", text, re.ASCII)
    return parts is not None and 0 < int(parts[1]) < 2**16
