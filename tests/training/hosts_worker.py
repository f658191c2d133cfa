"""One of several processes: `hosts_worker.py PORT PROCESSES PROCESS_ID DEVICES FOLDER OUT`.

Trains a toy model, with evaluation, sampling and checkpoints, and saves its parameters. One process
has its text on the devices; each of several reads its rows of it from shards.
"""

import dataclasses
import pathlib
import sys

import flax.linen as nn
import jax
import numpy as np

from jaxlabs import keys
from jaxlabs.data.batches import Examples, TokenStream
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.host_streams import HostTokenStream
from jaxlabs.data.shards import ShardedTokens
from jaxlabs.layers.dropout import Dropout
from jaxlabs.losses.cross_entropy import cross_entropy
from jaxlabs.losses.loss_output import LossOutput
from jaxlabs.run_folder import RunFolder
from jaxlabs.training import devices
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import leaf_names
from jaxlabs.training.step import build_train_step
from jaxlabs.training.task import Task
from jaxlabs.training.trainer import Trainer

VOCABULARY, CONTEXT = 7, 6


class Toy(nn.Module):
    """Embedding, dropout, head."""

    @nn.compact
    def __call__(self, tokens, dropout_keys=None):
        x = nn.Embed(VOCABULARY, 5, name="embedding")(tokens)
        return nn.Dense(VOCABULARY, name="head")(Dropout(0.5, name="dropout")(x, dropout_keys))


@dataclasses.dataclass(frozen=True, eq=False)
class Recorded(HostTokenStream):
    """A text in shards; it keeps which rows of the batches were read."""

    rows: set = dataclasses.field(default_factory=set)

    def rows_at(self, seed, step, batch_size, start, stop):
        self.rows.add((start, stop))
        return super().rows_at(seed, step, batch_size, start, stop)


def loss(model, variables, batch, key, *, train, **_):
    """Cross entropy over valid tokens."""
    dropout_keys = keys.per_example(key, batch["example_index"]) if train else None
    logits = model.apply(variables, batch["inputs"], dropout_keys)
    nats = batch["weights"] * cross_entropy(logits, batch["targets"])
    return LossOutput(nats.sum(), batch["weights"].sum(), {})


def sample(state):
    """Samples one token with its own jitted function, as a lab does."""
    apply = jax.jit(lambda params: state.model.apply({"params": params}, np.zeros((1, 1), int)))
    return str(int(apply(state.eval_params).argmax()))


def main(port, processes, process_id, local_devices, folder, out):
    """Runs one process."""
    jax.config.update("jax_num_cpu_devices", int(local_devices))
    devices.start("cpu", f"localhost:{port}", int(processes), int(process_id))
    random = np.random.default_rng(0)
    tokens = random.integers(0, VOCABULARY, (10, CONTEXT + 1), np.int32)
    held_out = {"inputs": tokens[:, :-1], "targets": tokens[:, 1:]}
    held_out["weights"] = np.ones((10, CONTEXT), np.float32)
    text, rows = random.integers(0, VOCABULARY, 200).astype(np.uint8), set()
    train = TokenStream(text, CONTEXT)
    if int(processes) > 1:
        train = Recorded(ShardedTokens(np.split(text, [50, 51, 120])), CONTEXT, rows=rows)
    data = DataModule(
        train=train,
        eval_sets={"held_out": Examples(held_out)},
        final_eval_sets=dict,
        dataset={},
        comparable=False,
        data_spec={},
        baselines=dict,
    )
    flags = {"batch_size": 8, "eval_batch_size": 4, "log_every": 1, "steps_per_call": 3}
    flags |= {"eval_every": 4, "checkpoint_every": 4, "ema_decay": 0.9, "grad_accum_steps": 2}
    config = RunConfig.from_flat(flags | {"steps": 6, "optimizer": "adamw", "learning_rate": 1e-2})
    model = Toy()
    task = Task(model, lambda key: model.init(key, tokens), loss, build_train_step(loss))
    run_folder = RunFolder(folder)
    if devices.is_main_process():
        run_folder.create()
    placement = devices.data_parallel()
    with Checkpoints(run_folder.checkpoints, 2) as checkpoints:
        trainer = Trainer(task, data, config, placement, run_folder, checkpoints, {}, sample)
        result = trainer.train()
        restored = checkpoints.restore(result.state, at_most=4)
    arrays = {
        f"{name}.{leaf}": value
        for name, tree in (("last", result.state), ("at_4", restored))
        for leaf, value in zip(
            leaf_names(tree), jax.tree.leaves(devices.to_host(tree)), strict=True
        )
    }
    np.savez(pathlib.Path(out), rows_read=sorted(rows), **arrays)


if __name__ == "__main__":
    main(*sys.argv[1:])
