"""A study of gradients and memory in recurrent networks: RNN, LSTM and GRU.

A two-step network with exact gradients; gradients through time by cell and by spectral radius; the
gradient paths of an LSTM; gate activations; gradient clipping; weight sharing; the adding problem
and the copying task. Nothing is downloaded.

Source    Hochreiter and Schmidhuber 1997; Pascanu et al. 2013; Le et al. 2015; Arjovsky et al.
          2016; an unpublished course homework (the two-step network)
Command   python -m experiments.rnn_dynamics --platform=cpu
Expect    quick: 70 seconds on two cores; gated cells solve the adding problem, a plain RNN does not
"""

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxlabs import keys
from jaxlabs.analysis import two_step_rnn
from jaxlabs.config import positive, setting
from jaxlabs.data import memory_tasks
from jaxlabs.labs.rnn_dynamics import (
    clipping,
    dynamics,
    lstm_gradient_paths,
    memory_task_study,
    plots,
    weight_sharing,
)
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.lab import Study, StudyResult
from jaxlabs.training.run_config import CommonConfig

TASK_LENGTHS = (50, 100, 200, 500)
GRADIENT_SEQUENCES = 64
"""Sequences of the measurement of gradients through time."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RNNDynamicsRunConfig(CommonConfig):
    """Settings of the measurements and of the trainings."""

    updates: int = positive(20, "updates of the two-step network per rate", maximum=150)
    sweep_hidden_size: int = setting(
        64,
        "hidden size of the networks of the spectral radius sweep",
        minimum=2,
        maximum=4096,
        aliases=("sweep_width",),
    )
    # Squares of the largest and smallest gradients, 2 ** (2 * steps), stay finite in float64.
    gradient_steps: int = setting(
        200, "time steps of the measured gradients", minimum=2, maximum=500
    )
    clipping_steps: int = positive(
        600, "training steps with and without clipping", maximum=1_000_000
    )
    rule_steps: int = positive(
        600, "training steps with shared and unshared weights", maximum=1_000_000
    )
    max_length: int = setting(
        100,
        "maximum sequence length of the memory tasks; 50, 100, 200 and 500 below it are added",
        minimum=3,
        maximum=10_000,
    )
    adding_hidden_size: int = positive(
        32, "hidden size for the adding problem", maximum=4096, aliases=("adding_width",)
    )
    adding_steps: int = positive(600, "training steps of the adding problem", maximum=1_000_000)
    copying_hidden_size: int = positive(
        48, "hidden size for the copying task", maximum=4096, aliases=("copying_width",)
    )
    copying_steps: int = positive(600, "training steps of the copying task", maximum=1_000_000)
    seeds: int = positive(
        3, "runs per configuration of the clipping and weight sharing studies", maximum=10_000
    )
    memory_seeds: int = positive(1, "runs per configuration of the memory tasks", maximum=10_000)

    def lengths(self) -> list[int]:
        """Returns the lengths of the memory tasks."""
        return [length for length in TASK_LENGTHS if length < self.max_length] + [self.max_length]


PRESETS = {
    "quick": {},
    "best": {
        "max_length": 500,
        "memory_seeds": 3,
        "adding_steps": 1000,
        "copying_steps": 1000,
        "rule_steps": 2000,
        "clipping_steps": 1000,
    },
}


def measure(config: RNNDynamicsRunConfig, folder: RunFolder) -> StudyResult:
    """Runs all measurements and trainings."""
    two_step, lengths = two_step_rnn.study(config.updates), config.lengths()
    sweep = dynamics.spectral_sweep(config.sweep_hidden_size, config.gradient_steps, config.seed)
    shared = weight_sharing.gradient_study(config.seed)
    rules = weight_sharing.rules_study(config.seeds_from(config.seeds), config.rule_steps)
    clipped = clipping.study(config.clipping_steps, config.seeds_from(config.seeds))
    seeds = config.seeds_from(config.memory_seeds)
    adding, trained = memory_task_study.study(
        "adding", lengths, config.adding_hidden_size, config.adding_steps, seeds
    )
    copying, _ = memory_task_study.study(
        "copying", lengths, config.copying_hidden_size, config.copying_steps, seeds
    )
    folder.write_arrays("two_step_rnn", **two_step)
    folder.write_arrays("spectral_sweep", **sweep)
    folder.write_arrays("clipping", **clipped)
    folder.write_arrays("weight_sharing", **shared)
    folder.write_arrays("weight_sharing_rules", **rules)
    folder.write_arrays("memory_adding", **adding)
    folder.write_arrays("memory_copying", **copying)
    cells = {cell: trained[cell, lengths[0]] for cell in ("rnn", "lstm", "gru")}
    metrics = _gradients_of(cells, config, folder)
    metrics |= dynamics.metrics(sweep) | clipping.metrics(clipped)
    metrics |= weight_sharing.metrics(shared, rules)
    metrics |= memory_task_study.metrics(adding) | memory_task_study.metrics(copying)
    metrics = {name: float(value) for name, value in metrics.items()}
    table = "\n".join(f"{name} {value:.4g}" for name, value in metrics.items())
    return StudyResult(metrics, f"{two_step_rnn.format_table(two_step)}\n\n{table}")


def _gradients_of(
    cells: dict[str, Any], config: RNNDynamicsRunConfig, folder: RunFolder
) -> dict[str, float]:
    """Measures gradients and gates in the adding problem, before and after training."""
    steps, shortest = config.gradient_steps, config.lengths()[0]
    key, one_key = jax.random.split(keys.stream(config.seed, "sample"))
    inputs, targets = map(np.asarray, memory_tasks.adding(key, GRADIENT_SEQUENCES, steps))
    before = {
        name: memory_task_study.task_params(
            "adding", name, steps, config.adding_hidden_size, config.seed
        )
        for name in memory_task_study.VARIANTS
    }
    networks = {f"before_{cell}": (cell, before[cell]) for cell in cells}
    networks |= {f"after_{cell}": (cell, params) for cell, params in cells.items()}
    through = dynamics.through_time(networks, inputs, targets)
    folder.write_arrays("gradient_through_time", **through, trained_length=shortest)
    lstms = {"before training": before["lstm"], "after training": cells["lstm"]}
    lstms |= {"before, chrono init": before["lstm, chrono init"]}
    paths = lstm_gradient_paths.paths_study(lstms, inputs, targets)
    folder.write_arrays("cell_paths", **paths)
    gated = {cell: (cell, cells[cell]) for cell in lstm_gradient_paths.GATES}
    one = memory_tasks.adding(one_key, 1, shortest)[0]
    folder.write_arrays("gates", **lstm_gradient_paths.gate_activations(gated, np.asarray(one)))
    ratios = {f"gradient_norm_ratio_{n}_{steps}_steps": through[f"{n}_h"][0, 1] for n in networks}
    return ratios | {"cell_path_stop_gradient_error": paths["stop_gradient_error"].max()}


STUDY = Study(
    name="rnn_dynamics",
    description=__doc__,
    config_class=RNNDynamicsRunConfig,
    presets=PRESETS,
    measure=measure,
    plots={
        "two_step_rnn": plots.two_step,
        "spectral_sweep": plots.spectral_sweep,
        "gradient_through_time": plots.through_time,
        "cell_paths": plots.cell_paths,
        "gates": plots.gates,
        "clipping": plots.clipping,
        "weight_sharing": plots.shared_gradients,
        "weight_sharing_rules": plots.rules,
        "memory_adding": plots.memory_task,
        "memory_copying": plots.memory_task,
    },
    main_metrics=(
        "gradient_norm_ratio_after_rnn_200_steps",
        "gradient_norm_ratio_after_lstm_200_steps",
    ),
)
