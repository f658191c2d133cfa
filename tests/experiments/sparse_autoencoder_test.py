"""The command of the sparse autoencoder, on dead leaves."""

import jax
import numpy as np
import pytest

from jaxlabs.benchmark.peers import scipy_solver
from jaxlabs.labs.sparse_autoencoder.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli, modes
from jaxlabs.training.devices import data_parallel
from jaxlabs.training.initial_state import inference_state

pytestmark = pytest.mark.usefixtures("reused_executables")

SMALL = "--dataset=dead_leaves --patches=300 --patch_size=5 --hidden_size=6 --eval_batch_size=300"
SMALL += " --sparsity_rho=0.1 --log_every=1 --eval_every=100"


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*flags, workdir, report=False):
    """Trains, by default without a report: figures take longer than these runs."""
    modes.train(cli.parse(LAB, [*SMALL.split(), *flags, f"--workdir={workdir}"]), report=report)
    return RunFolder(workdir)


@pytest.mark.slow
def test_optax_and_scipy_reach_the_same_cost():
    whole = ["--batch_size=300", "--steps=600"]
    ours = run(*whole, workdir="lbfgs", report=True)
    config = cli.parse(LAB, [*SMALL.split(), *whole]).config()
    task, data = LAB.build_task(config, {}), LAB.load_data(config)
    state = inference_state(task, config, data_parallel(jax.devices()[:1]))
    _, costs = scipy_solver.solve(task, state, data.train, config.seed, config.steps)
    cost = ours.read_summary()["metrics"]["training_patches_loss"]
    np.testing.assert_allclose(cost, costs[-1], rtol=0.005)
    figures = {path.stem for path in ours.figures.glob("*.png")}
    expected = {"loss", "filters", "reconstructions", "activations", "gabors", "cost_terms"}
    assert expected | {"whitening", "final_samples"} <= figures
    metrics = ours.read_summary()["metrics"]
    terms = [metrics[f"training_patches_{t}_term"] for t in ("weight", "sparsity")]
    total = metrics["training_patches_reconstruction"] + sum(terms)
    np.testing.assert_allclose(metrics["training_patches_loss"], total, rtol=1e-5)


@pytest.mark.slow
def test_adam_lowers_the_cost_on_mini_batches():
    folder = run("--preset=adam", "--batch_size=100", "--steps=200", workdir="adam")
    losses = [row["loss"] for row in folder.read_metrics() if row["split"] == "training_patches"]
    assert losses[-1] < 0.3 * losses[0]


def test_finished_run_can_be_rerun_evaluated_and_analyzed(rerun):
    rerun(LAB, run("--batch_size=300", "--steps=2", workdir="whole"))


def test_interrupted_run_resumes_to_the_same_end(cut_off, require_same_end):
    flags = ["--batch_size=300", "--steps=4", "--checkpoint_every=2"]
    whole = run(*flags, workdir="whole")
    folder = cut_off(whole)
    run(*flags, workdir=folder.path)
    require_same_end(folder, whole)


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (
            ["--grad_accum_steps=3"],
            "--grad_accum_steps: 3 is not accepted; 1, since the loss of an example depends",
        ),
        (["--batch_size=8"], "--batch_size: 8 is not accepted with --optimizer lbfgs; 300, all"),
        (["--dataset=nowhere"], "--dataset: no "),
    ],
)
def test_bad_input_is_an_error_of_one_line(capsys, flags, line):
    assert cli.run(LAB, [*SMALL.split(), "--batch_size=300", *flags]) == 2
    err = capsys.readouterr().err.splitlines()[-1]
    assert err.startswith(f"sparse_autoencoder: {line}")
