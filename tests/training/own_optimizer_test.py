"""A task with an optimizer of its own: training, resuming, logs, lr_range, messages."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlabs import keys
from jaxlabs.config import UserError
from jaxlabs.data.batches import Examples, batch_at
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli
from jaxlabs.runner.lab import Lab
from jaxlabs.training.lr_finder import MAX_RATIO, MIN_RATIO, range_test
from jaxlabs.training.run_config import RunConfig

pytestmark = pytest.mark.usefixtures("here")

STEPS, RATE = 6, "learning_rate"
SETTINGS = {"steps": STEPS, "batch_size": 8, "log_every": 1, "grad_clip_norm": None}


@pytest.fixture
def own(make_task):
    """`own(tx, name) -> Task` with an optimizer."""
    return lambda tx, name: dataclasses.replace(make_task(), optimizer=tx, optimizer_name=name)


@pytest.fixture
def run(make_data):
    """`run(task, *flags) -> (status, run folder)`: a command of the toy lab."""

    def run(task, *flags, data=None):
        lab = Lab(
            name="toy",
            description="Next-token prediction.",
            config_class=RunConfig,
            presets={"quick": SETTINGS | {"eval_batch_size": 8}},
            load_data=lambda config: data or make_data(),
            build_task=lambda config, data_spec: task,
            sample=lambda *_: "sample",
            analyze=lambda *_: {},
        )
        return cli.run(lab, [*flags, "--workdir=run"]), RunFolder("run")

    return run


def train_rows(folder):
    return [row for row in folder.read_metrics() if row["split"] == "train"]


def test_run_equals_plain_optax_and_logs_an_injected_rate(run, own, make_data, make_state):
    schedule = optax.exponential_decay(0.3, 2, 0.5)
    tx = optax.inject_hyperparams(optax.adabelief)(schedule)
    task = own(tx, "adabelief")
    status, folder = run(task)
    assert status == 0
    assert folder.read_config()["optimizer"] == "adabelief"
    rows = train_rows(folder)
    rates = [row["learning_rate"] for row in rows]
    np.testing.assert_allclose(rates, [schedule(step) for step in range(STEPS)], rtol=1e-6)

    state, losses = make_state(task, optax.adabelief(schedule)), []
    for step in range(STEPS):
        batch = batch_at(make_data().train, 0, step, 8)
        state, metrics = task.train_step(state, batch, keys.at_step(0, "step", step))
        losses.append(metrics["loss"])
    np.testing.assert_allclose([row["loss"] for row in rows], losses, rtol=1e-5)


def test_optimizer_of_the_minibatch_loss_gets_its_value(run, own):
    status, folder = run(own(optax.polyak_sgd(max_learning_rate=0.5), "polyak"), "--steps=40")
    losses = [row["loss"] for row in train_rows(folder)]
    assert status == 0
    assert np.mean(losses[-5:]) < 0.9 * losses[0]
    assert "learning_rate" not in train_rows(folder)[0]


def test_run_is_not_resumed_with_another_optimizer(run, own, make_task, capsys):
    assert run(own(optax.sgd(0.1), "mine"), "--steps=0")[0] == 0
    for task, given in ((own(optax.sgd(0.1), "yours"), "yours"), (make_task(), "")):
        assert run(task, "--steps=0")[0] == 2
        line = f"Task.optimizer_name (stored 'mine', given '{given}')"
        assert line in capsys.readouterr().err.splitlines()[-1]


def test_settings_of_the_built_in_optimizers_are_refused(run, own, capsys):
    for flag in ("--optimizer=adamw", "--learning_rate=0.1"):
        assert run(own(optax.sgd(0.1), "mine"), flag)[0] == 2
        name = flag.partition("=")[0]
        line = f"toy: {name}: not used by mine, the lab's own optimizer\n"
        assert capsys.readouterr().err == line


def test_settings_that_the_own_optimizer_reads_are_accepted_and_varied(make_task, make_data):
    def build_task(config, data_spec):
        tx = optax.inject_hyperparams(optax.adabelief)(config.optimization.learning_rate)
        given = {"optimizer": tx, "optimizer_name": "mine", "optimizer_settings": (RATE,)}
        return dataclasses.replace(make_task(), **given)

    lab = Lab(
        name="toy",
        description="Next-token prediction.",
        config_class=RunConfig,
        presets={"quick": SETTINGS | {"eval_batch_size": 8, "steps": 1}},
        load_data=lambda config: make_data(),
        build_task=build_task,
        sample=lambda *_: "sample",
        analyze=lambda *_: {},
    )
    assert cli.run(lab, ["--vary", f"{RATE}=0.5,0.125", "--workdir=sweep"]) == 0
    rates = {train_rows(RunFolder(path))[0][RATE] for path in RunFolder("sweep").runs.iterdir()}
    assert rates == {0.5, 0.125}
    assert cli.run(lab, ["--weight_decay=0.5", "--workdir=run"]) == 2


def test_unknown_setting_of_an_own_optimizer_is_refused(own):
    with pytest.raises(UserError, match=r"^optimizer_settings: 'rate' is not accepted; some of ad"):
        dataclasses.replace(own(optax.sgd(0.1), "mine"), optimizer_settings=("rate",))


def test_optimizer_without_a_name_is_refused(own):
    with pytest.raises(UserError, match=r"^optimizer_name: expected together with"):
        own(optax.sgd(0.1), "")


def test_clipping_precedes_the_own_optimizer(run, own):
    task = own(optax.chain(optax.trace(0.0), optax.scale(-1.0)), "gradient")
    _, folder = run(task, "--grad_clip_norm=1e-6")
    assert np.ptp([row["gradient_norm"] for row in train_rows(folder)]) > 0
    held_out = [row["loss"] for row in folder.read_metrics() if row["split"] == "held_out"]
    np.testing.assert_allclose(held_out[-1], held_out[0], rtol=1e-4)


def test_line_search_gets_the_full_batch_step_and_ends_at_convergence(
    run, own, make_data, make_batch, capsys
):
    arrays = {name: make_batch(3, 8)[name] for name in ("inputs", "targets", "weights")}
    data = dataclasses.replace(make_data(), train=Examples(arrays))
    search = optax.scale_by_backtracking_linesearch(max_backtracking_steps=20)
    task = own(optax.chain(optax.sgd(1.0), search), "descent")
    status, folder = run(task, "--steps=30", data=data)
    assert status == 0
    assert np.all(np.diff([row["loss"] for row in train_rows(folder)]) <= 1e-6)
    refused = {
        "--batch_size=4": "--batch_size: 4 is not accepted with --optimizer descent; 8, all",
        "--mode=lr_range": "--mode=lr_range: descent has no learning rate",
    }
    for flag, line in refused.items():
        assert run(task, "--overwrite", flag, data=data)[0] == 2
        assert line in capsys.readouterr().err
    assert run(task, "--overwrite")[0] == 2
    assert "--optimizer: descent needs a finite set of examples" in capsys.readouterr().err


def test_full_batch_run_with_an_own_optimizer_ends_at_its_plateau(run, own, make_data, make_batch):
    arrays = {name: make_batch(3, 8)[name] for name in ("inputs", "targets", "weights")}
    data = dataclasses.replace(make_data(), train=Examples(arrays))

    def update(updates, state, params, *, value_fn, **_):
        return jax.tree.map(jnp.zeros_like, updates), state

    still = optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)
    _, folder = run(own(still, "still"), "--steps=100", data=data)
    assert folder.read_summary()["steps"] == 21


def test_range_test_scales_the_own_optimizer(own, make_data, make_config, make_placement):
    config = make_config(grad_clip_norm=None, ema_decay=0.0)
    curve = range_test(own(optax.sgd(0.5), "mine"), make_data(), config, make_placement(), 7)
    np.testing.assert_allclose(curve["learning_rate"][[0, -1]], [MIN_RATIO, MAX_RATIO], rtol=1e-6)
    plain = make_config(
        optimizer="sgd", learning_rate=0.5, weight_decay=0.0, grad_clip_norm=None, ema_decay=0.0
    )
    task = dataclasses.replace(own(optax.sgd(0.5), "mine"), optimizer=None, optimizer_name="")
    expected = range_test(task, make_data(), plain, make_placement(), 7)
    np.testing.assert_allclose(curve["loss"], expected["loss"], rtol=1e-5)


def test_divergence_names_the_own_optimizer(run, make_task, capsys):
    task = dataclasses.replace(
        make_task(nonfinite_from=2), optimizer=optax.sgd(0.1), optimizer_name="mine"
    )
    assert run(task, "--steps=40")[0] == 2
    assert "toy: optimizer mine: loss, gradient or update not finite" in capsys.readouterr().err
