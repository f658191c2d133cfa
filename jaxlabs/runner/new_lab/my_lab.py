"""A multilayer perceptron separates two interleaved spirals.

Source    Lang and Witbrock 1988, "Learning to tell two spirals apart"
Command   jaxlabs my_lab.py --platform=cpu
Expect    test accuracy of 1 after ten seconds
"""

import dataclasses

import flax.linen as nn
import jax
import numpy as np
import optax

import jaxlabs as jl


@dataclasses.dataclass(frozen=True, kw_only=True)
class MyLabConfig(jl.RunConfig):
    """Settings: each one is a flag with its type and range."""

    turns: float = jl.setting(1.5, "turns of each spiral", above=0, section="data")
    hidden_size: int = jl.setting(64, "units of both hidden layers", minimum=1, section="model")


def spirals(count, turns, seed):
    """Returns points [count, 2] on two spirals, with the number of their spiral."""
    rng = np.random.default_rng(seed)
    radius, labels = np.sqrt(rng.random(count)), rng.integers(0, 2, count, np.int32)
    angle = 2 * np.pi * (turns * radius + labels / 2)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return jl.Examples({"points": points.astype(np.float32), "labels": labels})


def load_data(config):
    """Returns the training data, and the sets that are evaluated during training."""
    return jl.DataModule(
        train=spirals(2000, config.turns, seed=0),
        eval_sets={"test": spirals(1000, config.turns, seed=1)},
        dataset={"name": "spirals", "source": "generated"},
        baselines=lambda: {"guess": float(np.log(2))},
    )


def loss(model, variables, batch, key, **_):
    """Returns sums over the examples, never means: the step divides, once."""
    logits = model.apply(variables, batch["points"])  # [batch, 2]
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
    hits, weights = logits.argmax(-1) == batch["labels"], batch["weights"]
    return jl.LossOutput(
        loss_sum=(nats * weights).sum(),
        weight_sum=weights.sum(),
        metric_sums={"accuracy": (hits * weights).sum()},
    )


def build_task(config, data_spec):
    """Returns the model, its initial variables and the loss."""
    hidden = [nn.Dense(config.hidden_size), nn.tanh, nn.Dense(config.hidden_size), nn.tanh]
    model = nn.Sequential([*hidden, nn.Dense(2)])
    return jl.Task(model, lambda key: model.init(key, np.zeros((1, 2))), loss)


def sample(config, task, data_spec, state, key):
    """Returns an image of the square [-1, 1]: the probability of the second spiral."""
    axis = np.linspace(-1, 1, 64, dtype=np.float32)
    points = np.stack(np.meshgrid(axis, -axis), axis=-1)  # [height, width, 2]
    logits = task.model.apply({"params": state.eval_params}, points)
    return {"images": np.asarray(jax.nn.softmax(logits)[None, ..., 1])}


LAB = jl.Lab(
    name="my_lab",
    description=__doc__,
    config_class=MyLabConfig,
    presets={"quick": {"steps": 2000, "learning_rate": 0.01}, "wide": {"hidden_size": 256}},
    load_data=load_data,
    build_task=build_task,
    sample=sample,
    main_metrics=("test_accuracy",),
)
