"""The train state: everything that a training step reads and writes."""

import re
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from jaxlabs.training.sharding import gather

Tree = Any


@flax.struct.dataclass
class TrainState:
    """The state in `state, metrics = train_step(state, batch, key)`.

    Attributes:
      step: [] int32, number of steps taken; with the seed it also determines the data position.
      params: parameters, float32.
      opt_state: optimizer state.
      ema_params: exponential moving average (EMA) of `params`, or None.
      batch_stats: running statistics, or None.
      skipped: [] int32, number of consecutive latest steps that were skipped as non-finite.
      model: the linen module; static, not in checkpoints.
      tx: the optimizer; static, not in checkpoints.
      ema_decay: decay rate of the average; static.
      grad_accum_steps: number of micro-batches per step; static.
      freeze: pattern of the names of the parameters that do not change, or None; static.
      carry: arrays `[batch, ...]` that the next step continues from, such as the hidden states of
        truncated BPTT; None for losses without a carry.
      mesh: the mesh that parameters and optimizer state are split over; None if they are not;
        static.
    """

    step: jax.Array
    params: Tree
    opt_state: Tree
    ema_params: Tree
    batch_stats: Tree
    skipped: jax.Array
    model: nn.Module = flax.struct.field(pytree_node=False)
    tx: optax.GradientTransformation = flax.struct.field(pytree_node=False)
    ema_decay: float = flax.struct.field(pytree_node=False)
    grad_accum_steps: int = flax.struct.field(pytree_node=False)
    carry: Tree = None
    freeze: str | None = flax.struct.field(pytree_node=False, default=None)
    mesh: Mesh | None = flax.struct.field(pytree_node=False, default=None)

    @property
    def eval_params(self) -> Tree:
        """The parameters for evaluation and sampling: the EMA, if there is one."""
        return self.params if self.ema_params is None else self.ema_params

    def without_optimizer(self) -> "TrainState":
        """Returns the state for evaluation and sampling: the optimizer state is empty."""
        return self.replace(opt_state=optax.EmptyState())

    def variables(self, params: Tree) -> dict[str, Tree]:
        """Returns the variables for `model.apply`: `params`, and `batch_stats` if there are any.

        Where the state is split over a mesh, the parameters are gathered.
        """
        statistics = {} if self.batch_stats is None else {"batch_stats": self.batch_stats}
        return {"params": gather(params, self.mesh)} | statistics


def create_state(
    model: nn.Module,
    variables: dict[str, Tree],
    tx: optax.GradientTransformation,
    *,
    ema_decay: float = 0.0,
    grad_accum_steps: int = 1,
    carry: Tree = None,
    freeze: str | None = None,
    mesh: Mesh | None = None,
) -> TrainState:
    """Returns the state at step 0.

    Args:
      model: the linen module.
      variables: result of `model.init`: "params", and "batch_stats" if the model has them.
      tx: an optax optimizer, including clipping.
      ema_decay: 0 for no average; else in (0, 1), `ema = decay * ema + (1 - decay) * params`.
      grad_accum_steps: number of micro-batches per step.
      carry: the initial carry, or None.
      freeze: pattern of the names of the parameters that do not change, or None.
      mesh: see `TrainState`.
    """
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        # Copied, since a step donates the state and some optimizers keep the parameters themselves.
        opt_state=jax.tree.map(jnp.copy, tx.init(params)),
        ema_params=jax.tree.map(jnp.copy, params) if ema_decay else None,
        batch_stats=variables.get("batch_stats"),
        skipped=jnp.zeros((), jnp.int32),
        model=model,
        tx=tx,
        ema_decay=ema_decay,
        grad_accum_steps=grad_accum_steps,
        carry=carry,
        freeze=freeze,
        mesh=mesh,
    )


def count_parameters(params: Tree) -> int:
    """Returns the number of scalars in a parameter tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def frozen_leaves(params: Tree, pattern: str) -> Tree:
    """Returns a tree of bool: whether the dotted name of a parameter matches a pattern."""

    def matches(path: Any, _: Any) -> bool:
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        return re.search(pattern, name) is not None

    return jax.tree_util.tree_map_with_path(matches, params)


def leaf_names(tree: Tree) -> list[str]:
    """Returns the dotted name of every leaf, in the order of `jax.tree.leaves`."""
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
