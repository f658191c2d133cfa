"""Why gradients vanish, what gates do about it, and which cell remembers for how long.

A two-step network with exact answers; gradients through time of rnn, lstm and gru, and of plain
networks from vanishing to exploding; an LSTM's gradient along its cell; gates; clipping; what
sharing weights saves and makes hard; the adding problem and the copy task. Nothing is downloaded.

Source    Hochreiter and Schmidhuber 1997; Pascanu et al. 2013; Le et al. 2015; Arjovsky et al.
          2016; an unpublished course homework (the two-step network)
Command   python -m experiments.rnn_dynamics --platform=cpu
Expect    quick: 70 seconds on two cores; cells with gates add what a plain one forgets
"""

import dataclasses
import sys
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
import tqdm

from jaxlabs import command, keys
from jaxlabs.analysis import (
    lstm_gradient_paths,
    clipping,
    dynamics,
    memory_task_study,
    two_step_rnn,
    weight_sharing,
)
from jaxlabs.config import setting
from jaxlabs.data import memory_tasks
from jaxlabs.lab import Study, StudyResult
from jaxlabs.run_folder import RunFolder
from jaxlabs.training.run_config import CommonConfig

LENGTHS, SEQUENCES = (50, 100, 200, 500), 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class RnnDynamicsConfig(CommonConfig):
    """Sizes of the measurements and of the trainings."""

    updates: int = setting(20, "of the two-step network at every rate", minimum=1, maximum=150)
    sweep_hidden_size: int = setting(
        64,
        "units of the networks whose radius is swept",
        minimum=2,
        maximum=4096,
        aliases=("sweep_width",),
    )
    gradient_steps: int = setting(
        200, "through which gradients are followed back", minimum=2, maximum=10_000
    )
    clipping_steps: int = setting(
        600, "of training with and without clipping", minimum=1, maximum=1_000_000
    )
    rule_steps: int = setting(
        600, "of training shared and unshared weights", minimum=1, maximum=1_000_000
    )
    max_length: int = setting(
        100,
        "longest memory task; shorter ones are those of 50, 100, 200, 500 below it",
        minimum=3,
        maximum=10_000,
    )
    adding_hidden_size: int = setting(
        32, "units of networks that add", minimum=1, maximum=4096, aliases=("adding_width",)
    )
    adding_steps: int = setting(600, "of training them", minimum=1, maximum=1_000_000)
    copying_hidden_size: int = setting(
        48, "units of networks that copy", minimum=1, maximum=4096, aliases=("copying_width",)
    )
    copying_steps: int = setting(600, "of training them", minimum=1, maximum=1_000_000)
    seeds: int = setting(
        3, "runs of each kind where training takes seconds", minimum=1, maximum=10_000
    )
    memory_seeds: int = setting(
        1, "runs of each kind of the memory tasks", minimum=1, maximum=10_000
    )

    def lengths(self) -> list[int]:
        """Returns the lengths of the memory tasks."""
        return [length for length in LENGTHS if length < self.max_length] + [self.max_length]


BEST = {"max_length": 500, "memory_seeds": 3, "adding_steps": 1000, "copying_steps": 1000}
PRESETS = {"quick": {}, "best": BEST | {"rule_steps": 2000, "clipping_steps": 1000}}


def measure(config: RnnDynamicsConfig, folder: RunFolder) -> StudyResult:
    """Carries out all measurements and trainings."""
    two_step, lengths = two_step_rnn.study(config.updates), config.lengths()
    sweep = dynamics.spectral_sweep(config.sweep_hidden_size, config.gradient_steps, config.seed)
    shared = weight_sharing.gradient_study(config.seed)
    rules = weight_sharing.rules_study(config.seeds_from(config.seeds), config.rule_steps)
    clipped = clipping.study(config.clipping_steps, config.seeds_from(config.seeds))
    options = {"seeds": config.seeds_from(config.memory_seeds), "progress": _progress}
    sizes = {"adding": (config.adding_hidden_size, config.adding_steps)}
    sizes |= {"copying": (config.copying_hidden_size, config.copying_steps)}
    (adding, trained), (copying, _) = (
        memory_task_study.study(task, lengths, *sizes[task], **options) for task in sizes
    )
    cells = {cell: trained[cell, lengths[0]] for cell in ("rnn", "lstm", "gru")}
    written = {"two_step_rnn": two_step, "spectral_sweep": sweep, "clipping": clipped}
    written |= {"weight_sharing": shared, "weight_sharing_rules": rules}
    for name, arrays in (written | {"memory_adding": adding, "memory_copying": copying}).items():
        folder.write_arrays(name, **arrays)
    metrics = _gradients_of(cells, config, folder)
    metrics |= dynamics.metrics(sweep) | clipping.metrics(clipped)
    metrics |= weight_sharing.metrics(shared, rules)
    metrics |= memory_task_study.metrics(adding) | memory_task_study.metrics(copying)
    metrics = {name: float(value) for name, value in metrics.items()}
    table = "\n".join(f"{name} {value:.4g}" for name, value in metrics.items())
    return StudyResult(metrics, f"{two_step_rnn.format_table(two_step)}\n\n{table}")


def _gradients_of(
    cells: dict[str, Any], config: RnnDynamicsConfig, folder: RunFolder
) -> dict[str, float]:
    """Follows gradients and gates of networks that add, before and after they were trained."""
    steps, shortest = config.gradient_steps, config.lengths()[0]
    key, one_key = jax.random.split(keys.stream(config.seed, "sample"))
    inputs, targets = map(np.asarray, memory_tasks.adding(key, SEQUENCES, steps))
    before = {
        name: memory_task_study.task_params("adding", name, steps, config.adding_hidden_size, config.seed)
        for name in memory_task_study.KINDS
    }
    networks = {f"before_{cell}": (cell, before[cell]) for cell in cells}
    networks |= {f"after_{cell}": (cell, params) for cell, params in cells.items()}
    through = dynamics.through_time(networks, inputs, targets)
    folder.write_arrays("gradient_through_time", **through, trained_length=shortest)
    lstms = {"before training": before["lstm"], "after training": cells["lstm"]}
    lstms |= {"before, gates spread": before["lstm, gates spread"]}
    paths = lstm_gradient_paths.paths_study(lstms, inputs, targets)
    folder.write_arrays("cell_paths", **paths)
    gated = {cell: (cell, cells[cell]) for cell in lstm_gradient_paths.GATES}
    one = memory_tasks.adding(one_key, 1, shortest)[0]
    folder.write_arrays("gates", **lstm_gradient_paths.gate_activations(gated, np.asarray(one)))
    found = {
        f"gradient_share_{name}_{steps}_steps": through[f"{name}_h"][0, 1] for name in networks
    }
    return found | {"cell_path_stop_gradient_error": paths["stop_gradient_error"].max()}


def _progress(items: Iterable[Any], count: int, name: str) -> Iterable[Any]:
    return tqdm.tqdm(items, total=count, desc=name, unit=name, disable=None, file=sys.stderr)


STUDY = Study(
    name="rnn_dynamics",
    description=__doc__,
    config_class=RnnDynamicsConfig,
    presets=PRESETS,
    measure=measure,
)

if __name__ == "__main__":
    command.main(STUDY)
