"""L-BFGS of optax: the minimum, a stop at convergence, exact resume."""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import DataModule
from jaxlabs.losses.loss_output import LossOutput
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli
from jaxlabs.runner.lab import Lab
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.devices import data_parallel
from jaxlabs.training.full_batch import build_full_batch_step
from jaxlabs.training.initial_state import inference_state
from jaxlabs.training.optimizers import lbfgs
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import create_state
from jaxlabs.training.step import build_train_step, nonfinite_names
from jaxlabs.training.task import Task

pytestmark = pytest.mark.usefixtures("here")

COUNT, WIDTH, DECAY = 40, 6, 0.01
X = np.random.default_rng(0).normal(size=(COUNT, WIDTH)).astype(np.float32)
Y = (X @ np.arange(WIDTH) + np.sin(5 * X[:, 0])).astype(np.float32)


def minimum():
    """Returns the minimum cost of the ridge regression, in closed form."""
    x, y = X.astype(np.float64), Y.astype(np.float64)
    w = np.linalg.solve(x.T @ x / COUNT + DECAY * np.eye(WIDTH), x.T @ y / COUNT)
    return np.mean((x @ w - y) ** 2) / 2 + DECAY * np.sum(w**2) / 2


def loss(model, variables, batch, key, **_):
    y = model.apply(variables, batch["x"])[:, 0]
    weights = batch["weights"]
    decay = DECAY / 2 * sum(jnp.vdot(leaf, leaf) for leaf in jax.tree.leaves(variables))
    total = jnp.sum(jnp.square(y - batch["y"]) / 2 * weights) + decay * weights.sum()
    return LossOutput(total, weights.sum(), {})


def load_data(config):
    points = Examples({"x": X, "y": Y})
    dataset = {"name": "ridge", "source": "made up", "sha256": "0"}
    return DataModule(points, {"held_out": points}, dict, dataset, False, {}, dict)


def build_task(config, data_spec):
    model = nn.Dense(1, use_bias=False)
    init = lambda key: model.init(key, jnp.zeros((1, WIDTH)))  # noqa: E731
    return Task(model, init, loss, train_step)


train_step = build_train_step(loss)
RIDGE = Lab(
    name="ridge",
    description="Ridge regression.",
    config_class=RunConfig,
    presets={"quick": {"steps": 200, "batch_size": COUNT, "eval_batch_size": COUNT}},
    load_data=load_data,
    build_task=build_task,
    sample=lambda *_: "weights",
    analyze=lambda *_: {},
)


def run(*flags, workdir="run"):
    status = cli.run(RIDGE, [*flags, f"--workdir={workdir}"])
    return status, RunFolder(workdir)


@pytest.mark.parametrize("grad_accum_steps", [1, 5])
def test_minimum_equals_the_normal_equations_and_ends_the_run(grad_accum_steps, capsys):
    flags = ["--optimizer=lbfgs", f"--grad_accum_steps={grad_accum_steps}", "--log_every=1"]
    status, folder = run(*flags)
    assert status == 0
    summary = folder.read_summary()
    np.testing.assert_allclose(summary["metrics"]["held_out_loss"], minimum(), rtol=2e-5)
    assert 3 < summary["steps"] < 60  # of 200: it has converged
    assert summary["flops_per_step"] is None  # evaluations of a line search
    logged = [row["loss"] for row in folder.read_metrics() if row["split"] == "train"]
    assert len(logged) == summary["steps"]
    assert np.all(np.diff(logged) <= 1e-5)  # a line search never increases the loss
    status, folder = run(*flags)
    assert status == 0
    assert folder.read_summary() == summary  # it was already complete
    assert run(*flags, "--mode=replay", "--replay_step=150")[0] == 2
    stop = f"150 is not accepted; the run stops at step {summary['steps']} at convergence"
    assert capsys.readouterr().err.splitlines()[-1] == f"ridge: --replay_step: {stop}"


def test_lbfgs_resumes_bit_identical(monkeypatch):
    flags = ["--optimizer=lbfgs", "--checkpoint_every=3", "--eval_every=3", "--log_every=1"]
    _, whole = run(*flags, workdir="whole")
    calls = []
    with monkeypatch.context() as patch:
        patch.setattr(
            "jaxlabs.training.trainer.sync_hosts",
            lambda size, stopping: (1, calls.append(0) or len(calls) > 4),
        )
        status, folder = run(*flags, workdir="cut")
    assert status == 143
    assert not folder.is_complete()
    run(*flags, workdir="cut")
    one, other = whole.read_summary(), folder.read_summary()
    assert one["parameters_sha256"] == other["parameters_sha256"]
    assert one["steps"] == other["steps"]


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--optimizer=lbfgs", "--batch_size=8"], "--batch_size: 8 is not accepted with --optimi"),
        (
            ["--optimizer=lbfgs", "--grad_clip_norm=1"],
            "--grad_clip_norm: 1.0 is not accepted with --optimi",
        ),
        (
            ["--optimizer=lbfgs", "--ema_decay=0.9"],
            "--ema_decay: 0.9 is not accepted with --optimi",
        ),
        (["--optimizer=scipy"], "--optimizer: scipy is no longer accepted; lbfgs minimizes the"),
        (["--optimizer=lbfgs", "--mode=lr_range"], "--mode=lr_range: lbfgs has no learning rate"),
    ],
)
def test_settings_incompatible_with_full_batch_give_one_line(capsys, flags, line):
    assert run(*flags)[0] == 2
    assert capsys.readouterr().err.startswith(f"ridge: {line}")


def test_other_optimizers_never_converge(capsys):
    status, folder = run("--steps=30", "--learning_rate=1e-9")
    assert status == 0
    assert json.loads((folder.path / "summary.json").read_text())["steps"] == 30


@pytest.mark.parametrize("grad_accum_steps", [1, 5])
def test_loss_and_gradient_of_a_step_equal_numpy(grad_accum_steps):
    task = build_task(None, {})
    w = np.linspace(-1, 1, WIDTH, dtype=np.float32)
    params, options = {"kernel": w[:, None]}, {"grad_accum_steps": grad_accum_steps}
    tx = lbfgs()
    state = jax.jit(lambda p: create_state(task.model, {"params": p}, tx, **options))(params)
    batch = {"x": X, "y": Y, "weights": np.ones(COUNT, np.float32)}
    errors = X @ w - Y
    gradient = X.T @ errors / COUNT + DECAY * w
    _, metrics = build_full_batch_step(loss)(state, batch, jax.random.key(0))
    expected = np.mean(errors**2) / 2 + DECAY / 2 * np.sum(w**2)
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["gradient_norm"], np.linalg.norm(gradient), rtol=1e-5)


def test_stochastic_loss_is_refused(capsys):
    def noisy(model, variables, batch, key, **options):
        output = loss(model, variables, batch, key, **options)
        return output._replace(loss_sum=output.loss_sum * jax.random.uniform(key))

    task = dataclasses.replace(build_task(None, {}), loss=noisy)
    lab = dataclasses.replace(RIDGE, build_task=lambda *_: task)
    assert cli.run(lab, ["--optimizer=lbfgs", "--workdir=run"]) == 2
    assert "needs a deterministic loss" in capsys.readouterr().err


def test_run_trained_with_scipy_is_evaluated_sampled_and_exported(capsys):
    """Such runs have a checkpoint without an optimizer state; their training cannot continue."""
    config = RunConfig.from_flat(dict(RIDGE.presets["quick"]) | {"optimizer": "scipy"})
    task, data = build_task(config, {}), load_data(config)
    state = inference_state(task, config, data_parallel())
    folder = RunFolder("run")
    folder.create()
    stored = {"experiment": "ridge", "preset": "quick", "settings": config.flat()}
    folder.write_config(stored | {"dataset": data.dataset})
    metadata = {"data_spec": {}, "dataset": data.dataset, "settings": config.identity()}
    with Checkpoints(folder.checkpoints, 1) as checkpoints:
        checkpoints.save(state.replace(step=jnp.int32(7)), metadata, None)
    for mode in ("evaluate", "sample", "export"):
        assert run(f"--mode={mode}")[0] == 0
    printed = capsys.readouterr()
    kernel = np.asarray(state.params["kernel"], np.float64)[:, 0]
    cost = np.mean((X @ kernel - Y) ** 2) / 2 + DECAY * np.sum(kernel**2) / 2
    assert f"held_out_loss {cost:.4f}\n" in printed.out
    assert "weights\n" in printed.out
    assert "parameters of step 7" in printed.out
    assert run("--optimizer=scipy")[0] == 2
    assert "scipy is no longer accepted" in capsys.readouterr().err


def test_lbfgs_step_with_a_non_finite_update_is_skipped():
    def overflow(updates, state, params=None, **extra):
        return jax.tree.map(lambda leaf: leaf * jnp.inf, updates), state

    tx = optax.chain(lbfgs(), optax.GradientTransformationExtraArgs(lambda _: (), overflow))
    state = create_state(nn.Dense(1, use_bias=False), {"params": {"kernel": jnp.ones((6, 1))}}, tx)
    state = jax.tree.map(jnp.copy, state)  # the step donates every buffer, so each must be distinct
    batch = {"x": X, "y": Y, "weights": np.ones(COUNT, np.float32)}
    state, metrics = build_full_batch_step(loss)(state, batch, jax.random.key(0))
    assert (int(metrics["skipped"]), int(state.skipped), int(state.step)) == (1, 1, 1)
    assert nonfinite_names(state.params)[int(metrics["nonfinite_leaf"])] == "the update of kernel"
    np.testing.assert_array_equal(state.params["kernel"], np.ones((6, 1)))
