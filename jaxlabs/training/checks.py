"""Checks of a task, whatever its model: what a training step must satisfy, with a number for each.

Each check raises `Failed` with the number, or returns a line with it.
"""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxlabs import keys
from jaxlabs.losses.loss_output import Batch
from jaxlabs.training import gradient_check
from jaxlabs.training.devices import MeshSharding
from jaxlabs.training.feed import Feed
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState, Tree, create_state
from jaxlabs.training.task import Task

OVERFIT_STEPS, OVERFIT_RATIO, OVERFIT_RATE = 300, 0.5, 3e-3
"""Maximum number of steps of Adam on one batch, the ratio of losses to reach, and its rate."""

LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4
"""Relative differences of float32 results that are sums in another order."""

DIFFERENCE_EXAMPLES, DIFFERENCE_STEP, DIFFERENCE_TOLERANCE = 4, 1e-5, 1e-4
"""Gradients against differences: number of examples, step size, relative difference."""

NEGLIGIBLE = 1e-3
"""Gradients of a parameter count as this part of the whole gradient at least."""


class Failed(Exception):
    """A check has failed; the message has its number."""


@flax.struct.dataclass
class Case:
    """What the checks of a task share.

    Attributes:
      params: parameters at the start of training.
      batch_stats: running statistics, or None.
      carry: the initial carry, or None.
      batch: the first batch. The weights of some of its examples are 0, so that parts of the batch
        have different weights.
      key: the key of the first step.
      task: the task; static.
    """

    params: Tree
    batch_stats: Tree
    carry: Tree
    batch: Batch
    key: jax.Array
    task: Task = flax.struct.field(pytree_node=False)

    def state(
        self, tx: optax.GradientTransformation, grad_accum_steps: int = 1, carry: Tree = None
    ) -> TrainState:
        """Returns a new train state with an optimizer; its arrays may be donated."""
        variables = {"params": self.params, "batch_stats": self.batch_stats}
        state = create_state(
            self.task.model,
            variables,
            tx,
            grad_accum_steps=grad_accum_steps,
            carry=self.carry if carry is None else carry,
        )
        return jax.tree.map(jnp.copy, state)


def make_case(task: Task, config: RunConfig, placement: MeshSharding, dataset: Any) -> Case:
    """Returns the first batch of a run and the variables at its start."""
    data, _ = Feed(dataset, config, placement).at(0)
    seed = np.uint32(config.seed)
    batch = jax.jit(lambda data: data.batch_at(seed, jnp.int32(0), config.batch_size))(data)
    if "weights" in batch:
        weights = batch["weights"]
        uneven = ~jnp.isin(jnp.arange(weights.shape[0]), jnp.array([1, 2, 3]))
        batch = batch | {"weights": weights * jnp.expand_dims(uneven, range(1, weights.ndim))}
    variables = jax.jit(task.init)(keys.stream(config.seed, "init"))
    carry = jax.jit(lambda: task.init_carry(config.batch_size))()
    key = keys.at_step(config.seed, "step", 0)
    return Case(variables["params"], variables.get("batch_stats"), carry, batch, key, task)


def overfits_one_batch(case: Case) -> str:
    """Halves the loss of one batch, with the same random numbers at every step."""
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(OVERFIT_RATE))
    state, losses = case.state(tx), []
    for step in range(OVERFIT_STEPS):
        state, metrics = case.task.step(state.replace(step=0 * state.step), case.batch, case.key)
        losses.append(float(metrics["loss"]))
        if not np.isfinite(losses[-1]):
            raise Failed(f"the loss is {losses[-1]} at step {step}")
        if losses[-1] < losses[0] - (1 - OVERFIT_RATIO) * abs(losses[0]):
            return f"loss {losses[0]:.4g} -> {losses[-1]:.4g} in {step} steps"
    raise Failed(f"loss {losses[0]:.4g} -> {losses[-1]:.4g} in {OVERFIT_STEPS} steps; not halved")


def micro_batches_equal_the_batch(case: Case, count: int = 2) -> str:
    """Compares loss and gradients of micro-batches with those of the whole batch."""
    return _compare(_first_step(case), _first_step(case, grad_accum_steps=count))


def devices_equal_one(case: Case, placements: tuple[MeshSharding, MeshSharding]) -> str:
    """Compares loss and gradients on several devices with those on one."""
    return _compare(*(_first_step(case, placement) for placement in placements))


def gradients_equal_differences(case: Case) -> str:
    """Compares the gradients with central differences in float64, in random directions."""
    take = lambda leaf: leaf[-DIFFERENCE_EXAMPLES:]  # noqa: E731
    batch, carry = jax.tree.map(take, (case.batch, case.carry))
    loss_key, noise_key, direction_key = jax.random.split(case.key, 3)
    # Off the initialization, where many gradients are exactly 0.
    noise = optax.tree.random_like(noise_key, case.params)
    params = optax.tree.add_scale(case.params, 0.02, noise)

    def loss(params, batch_stats, batch, carry):
        statistics = {} if batch_stats is None else {"batch_stats": batch_stats}
        output = case.task.loss(
            case.task.model,
            {"params": params} | statistics,
            batch,
            loss_key,
            train=True,
            step=0,
            carry=carry,
        )
        if output.loss_sum.dtype != jnp.float64:
            raise Failed(f"the loss is {output.loss_sum.dtype} where its inputs are float64")
        return output.loss_sum / output.weight_sum

    found = gradient_check.check(
        loss,
        params,
        case.batch_stats,
        batch,
        carry,
        eps=DIFFERENCE_STEP,
        key=direction_key,
        max_entries=1,
        directions=1,
    )
    whole = found.all_params.analytic
    least = NEGLIGIBLE * float(np.linalg.norm(whole))
    worst, name = max(
        (
            float(
                np.linalg.norm(row.analytic - row.numeric)
                / (np.linalg.norm(row.analytic) + np.linalg.norm(row.numeric) + least)
            ),
            row.name,
        )
        for row in found.comparisons
    )
    line = f"relative difference {worst:.1e}, of {name}"
    return _within(line, worst, DIFFERENCE_TOLERANCE)


def _first_step(
    case: Case, placement: MeshSharding | None = None, grad_accum_steps: int = 1
) -> tuple[float, list[np.ndarray]]:
    """Returns loss and gradients of one training step."""
    # An optimizer that changes nothing and whose state is the last gradient.
    recorder = optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params),
        lambda updates, state, params: (jax.tree.map(jnp.zeros_like, updates), updates),
    )
    arguments = case.state(recorder, grad_accum_steps), case.batch, case.key
    step = case.task.step
    if placement is not None:
        train_step = step
        step = jax.jit(
            lambda state, batch, key: train_step(state, placement.shard_batch(batch), key),
            out_shardings=placement.replicated,
        )
        arguments = placement.replicate(arguments)
    state, metrics = step(*arguments)
    return float(metrics["loss"]), jax.device_get(jax.tree.leaves(state.opt_state))


def _compare(ours: tuple[float, list[np.ndarray]], theirs: tuple[float, list[np.ndarray]]) -> str:
    (loss, gradients), (other_loss, other_gradients) = ours, theirs
    loss_difference = abs(loss - other_loss) / max(abs(loss), 1e-12)
    vector, other = (
        np.concatenate([leaf.ravel().astype(np.float64) for leaf in leaves])
        for leaves in (gradients, other_gradients)
    )
    difference = float(np.linalg.norm(vector - other) / max(np.linalg.norm(vector), 1e-12))
    line = (
        f"relative difference of the loss {loss_difference:.1e}, of the gradient {difference:.1e}"
    )
    worst = max(loss_difference / LOSS_TOLERANCE, difference / GRADIENT_TOLERANCE)
    return _within(line, worst, 1.0)


def _within(line: str, value: float, tolerance: float) -> str:
    if not value <= tolerance:  # nan included
        raise Failed(line)
    return line
