"""A toy task for the tests of training: next-token prediction with about a hundred parameters."""

import functools
import subprocess

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs import keys
from jaxlabs.data.batches import Examples, TokenStream
from jaxlabs.data.dataset import DataModule
from jaxlabs.layers.dropout import Dropout
from jaxlabs.losses.cross_entropy import cross_entropy
from jaxlabs.losses.loss_output import LossOutput
from jaxlabs.training.devices import mesh_sharding
from jaxlabs.training.optimizer_config import OptimizerConfig
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import create_state
from jaxlabs.training.step import build_train_step
from jaxlabs.training.task import Task

VOCABULARY, EMBED_DIM, CONTEXT = 7, 5, 6


class Toy(nn.Module):
    """Embedding, one hidden layer with dropout, head; optionally with batch statistics.

    With `mlp_dim` there is a feed-forward network too, and all sizes but the vocabulary are even.
    """

    dropout: float = 0.0
    statistics: bool = False
    mlp_dim: int = 0

    @nn.compact
    def __call__(self, tokens, dropout_keys=None):
        embed_dim = self.mlp_dim // 2 or EMBED_DIM
        x = nn.Embed(VOCABULARY, embed_dim, name="embedding")(tokens)
        if self.mlp_dim:
            x = nn.Dense(embed_dim, name="down_proj")(
                nn.relu(nn.Dense(self.mlp_dim, name="up_proj")(x))
            )
        if self.statistics:
            mean = self.variable("batch_stats", "mean", jnp.zeros, (EMBED_DIM,))
            if self.is_mutable_collection("batch_stats") and not self.is_initializing():
                mean.value = 0.9 * mean.value + 0.1 * x.mean((0, 1))
        x = nn.tanh(nn.Dense(embed_dim, name="block")(x))
        x = Dropout(self.dropout, name="dropout")(x, dropout_keys)
        return nn.Dense(VOCABULARY, name="head")(x)


def toy_loss(model, variables, batch, key, *, train, step=0, nonfinite_from=None, **_):
    """Cross entropy over valid tokens; non-finite from step `nonfinite_from` on."""
    dropout_keys = keys.per_example(key, batch["example_index"]) if train else None
    mutable = ["batch_stats"] if train else False
    out = model.apply(variables, batch["inputs"], dropout_keys, mutable=mutable)
    logits, updates = (out[0], out[1].get("batch_stats")) if train else (out, None)
    weights = batch["weights"]
    total = jnp.sum(weights * cross_entropy(logits, batch["targets"]))
    if nonfinite_from is not None and train:
        total *= jnp.where(step >= nonfinite_from, jnp.nan, 1.0)
    hits = jnp.sum(weights * (jnp.argmax(logits, -1) == batch["targets"]))
    return LossOutput(total, weights.sum(), {"accuracy": hits}, updates)


@pytest.fixture(scope="module", autouse=True)
def cache_programs(reused_executables):
    """Caches executables on disk: many runs compile the same loop."""


@pytest.fixture(scope="session")
def run_together():
    """`run_together(commands) -> [(stdout, stderr), ...]` of commands that run at once and succeed.

    All of them are stopped if one does not end within `timeout` seconds.
    """

    def run(commands, timeout=300):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        workers = [subprocess.Popen(command, **pipes) for command in commands]
        try:
            outputs = [worker.communicate(timeout=timeout) for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
        for worker, (_, error) in zip(workers, outputs, strict=True):
            assert worker.returncode == 0, error[-4000:]
        return outputs

    return run


@functools.cache
def _task(dropout, statistics, nonfinite_from, mlp_dim=0):
    model = Toy(dropout, statistics, mlp_dim)
    loss = functools.partial(toy_loss, nonfinite_from=nonfinite_from)
    tokens = np.zeros((1, CONTEXT), np.int32)
    return Task(model, lambda key: model.init(key, tokens), loss, build_train_step(loss))


@pytest.fixture(scope="session")
def make_task():
    """`make_task(dropout=0.0, statistics=False, nonfinite_from=None, mlp_dim=0) -> Task`."""

    def make(*, dropout=0.0, statistics=False, nonfinite_from=None, mlp_dim=0):
        return _task(dropout, statistics, nonfinite_from, mlp_dim)

    return make


@pytest.fixture(scope="session")
def make_state():
    """`make_state(task, tx, ema_decay=0.0, grad_accum_steps=1) -> TrainState` at step 0."""

    @functools.cache
    def initial(statistics):
        init = jax.jit(_task(0.0, statistics, None).init)
        return jax.tree.map(np.asarray, init(keys.stream(0, "init")))

    def make(task, tx, **options):
        variables = jax.tree.map(
            jnp.array, initial(task.model.statistics)
        )  # a step donates its state
        return create_state(task.model, variables, tx, **options)

    return make


@pytest.fixture(scope="session")
def make_batch():
    """`make_batch(seed=0, size=8)`: numpy arrays; the number of valid tokens differs by example."""

    def make(seed=0, size=8):
        random = np.random.default_rng(seed)
        mask = random.permutation(size)[:, None] % CONTEXT >= np.arange(CONTEXT)[None, :]
        return {
            "inputs": random.integers(0, VOCABULARY, (size, CONTEXT), np.int32),
            "targets": random.integers(0, VOCABULARY, (size, CONTEXT), np.int32),
            "weights": mask.astype(np.float32),
            "example_index": np.arange(size, dtype=np.int32),
        }

    return make


@pytest.fixture(scope="session")
def make_data(make_batch):
    """`make_data() -> DataModule`: a token stream for training and a held-out set."""

    def make():
        text = np.random.default_rng(0).integers(0, VOCABULARY, 200).astype(np.uint8)
        arrays = {name: make_batch(1, 10)[name] for name in ("inputs", "targets", "weights")}
        return DataModule(
            train=TokenStream(tokens=text, context_length=CONTEXT),
            eval_sets={"held_out": Examples(arrays)},
            final_eval_sets=dict,
            dataset={"name": "toy", "source": "random", "sha256": "0" * 64},
            comparable=False,
            data_spec={},
            baselines=dict,
        )

    return make


@pytest.fixture(scope="session")
def make_config():
    """`make_config(**flags) -> RunConfig` of a short run."""
    short = RunConfig(
        steps=12,
        batch_size=8,
        eval_batch_size=4,
        log_every=2,
        eval_every=4,
        checkpoint_every=4,
        steps_per_call=3,
        optimization=OptimizerConfig(
            learning_rate=1e-2,
            lr_schedule="cosine",
            warmup_steps=2,
            grad_clip_norm=1.0,
            ema_decay=0.9,
        ),
    )

    def make(**flags):
        return RunConfig.from_flat(short.flat() | flags)

    return make


@pytest.fixture(scope="session")
def make_placement():
    """`make_placement(count, mesh=None) -> MeshSharding` over `count` virtual devices."""

    def make(count=1, mesh=None):
        return mesh_sharding(mesh, jax.devices()[:count])

    return make
