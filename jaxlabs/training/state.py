"""The state of a run: everything that a training step reads and writes."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

Tree = Any


@flax.struct.dataclass
class TrainState:
    """One point of the fold `state, metrics = train_step(state, batch, key)`.

    Attributes:
      step: [] int32, how many steps have been taken; with the seed it is the data position too.
      params: parameters, float32.
      opt_state: the optimizer's state.
      ema_params: exponential moving average of `params`, or None.
      batch_stats: running statistics, or None.
      skipped: [] int32, how many of the latest steps in a row were skipped as not finite.
      model: the linen module; static, not in checkpoints.
      tx: the optimizer; static, not in checkpoints.
      ema_decay: share of the average that a step keeps; static.
      grad_accum_steps: in how many slices a step takes its batch; static.
      axis_name: the mapped axis that a step runs under, for losses whose statistics go over all
        examples of the batch; static, and None outside such a step.
      carry: what the next step's examples go on from, [batch, ...] each, such as the states of a
        recurrent network whose text is read in pieces; None for losses that keep nothing.
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
    axis_name: str | None = flax.struct.field(pytree_node=False, default=None)
    carry: Tree = None

    @property
    def eval_params(self) -> Tree:
        """The parameters to evaluate and sample with: the average, when one is kept."""
        return self.params if self.ema_params is None else self.ema_params

    def variables(self, params: Tree) -> dict[str, Tree]:
        """Returns the collections for `model.apply`: `params`, and statistics if there are any."""
        statistics = {} if self.batch_stats is None else {"batch_stats": self.batch_stats}
        return {"params": params} | statistics


def create_state(
    model: nn.Module,
    variables: dict[str, Tree],
    tx: optax.GradientTransformation,
    *,
    ema_decay: float = 0.0,
    grad_accum_steps: int = 1,
    carry: Tree = None,
) -> TrainState:
    """Returns the state at step 0.

    Args:
      model: the linen module.
      variables: what `model.init` returned: "params", and "batch_stats" when the model has them.
      tx: an optax optimizer, clipping included.
      ema_decay: 0 keeps no average; else in (0, 1), `ema = decay * ema + (1 - decay) * params`.
      grad_accum_steps: a batch is taken in this many slices whose gradients add up.
      carry: what the first batch goes on from, or None.
    """
    params = variables["params"]
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=tx.init(params),
        ema_params=jax.tree.map(jnp.copy, params) if ema_decay else None,
        batch_stats=variables.get("batch_stats"),
        skipped=jnp.zeros((), jnp.int32),
        model=model,
        tx=tx,
        ema_decay=ema_decay,
        grad_accum_steps=grad_accum_steps,
        carry=carry,
    )


def count_parameters(params: Tree) -> int:
    """Returns the number of scalars in a parameter tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def leaf_names(tree: Tree) -> list[str]:
    """Returns the dotted name of every leaf, in the order of `jax.tree.leaves`."""
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]


LossFunction = Callable[..., Any]
"""`loss(params, batch, key, state, train) -> LossOutput`."""
