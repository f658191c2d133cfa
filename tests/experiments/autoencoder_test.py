"""The command of the autoencoders on rendered digits: outputs and resumption."""

import jax
import numpy as np
import pytest

from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import DataModule
from jaxlabs.labs.autoencoder import vae_latents
from jaxlabs.labs.autoencoder.lab import LAB, PRESETS, AutoencoderRunConfig, build_task
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli

pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")

TINY = (
    "--dataset=rendered_digits --train_images=400 --hidden_size=8 --num_hidden_layers=1 --steps=8"
)
TINY += " --batch_size=32 --eval_every=4 --checkpoint_every=4 --log_every=2 --iwae_samples=2"


def run(folder, *flags):
    assert cli.run(LAB, [*TINY.split(), f"--workdir={folder}", *flags]) == 0
    return RunFolder(folder)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of the quick preset, with both objectives trained for comparison."""
    folder = tmp_path_factory.mktemp("autoencoder") / "run"
    return run(
        folder, "--comparison_latent_dim=2", "--iwae_eval_images=50", "--iwae_eval_samples=6"
    )


def test_quick_preset_outputs(whole):
    summary = whole.read_summary()
    metrics = summary["metrics"]
    assert metrics["test_loss"] == pytest.approx(
        metrics["test_reconstruction"] + metrics["test_kl"], rel=1e-5
    )
    assert metrics["test_loss"] < summary["baselines"]["uniform Bernoulli"]
    assert metrics["iwae_6"] < metrics["iwae_2"] < metrics["test_loss"]
    assert metrics["iwae_6_images"] == 50
    assert 0 < metrics["iwae_6_stderr"] < 1
    assert metrics["active_units"] <= 2
    for where in ("at_codes", "between_codes", "random_codes"):
        assert metrics[f"ae_distance_{where}"] > 0
        assert metrics[f"vae_distance_{where}"] > 0
    with np.load(whole.arrays("latent_map")) as arrays:
        assert arrays["codes"].shape == (2000, 2)
        assert arrays["images"].shape[1:] == (28, 28, 1)
    with np.load(whole.arrays("interpolations")) as arrays:
        assert arrays["ae"].shape == arrays["vae"].shape == (5, 10, 28, 28, 1)
    figures = {path.stem for path in whole.figures.iterdir()}
    assert figures >= {"latent_map", "latent_grid", "latent_units", "interpolations"}
    assert figures >= {"random_codes", "reconstructions", "final_samples", "loss"}


def test_interrupted_run_resumes_to_the_same_end(whole, cut_off, require_same_end, capsys):
    folder = cut_off(whole)
    run(folder.path, "--comparison_latent_dim=2", "--iwae_eval_images=50", "--iwae_eval_samples=6")
    assert "resuming at step 4" in capsys.readouterr().err
    require_same_end(folder, whole)


def test_finished_run_can_be_rerun_evaluated_and_analyzed(whole, rerun):
    rerun(LAB, whole)


def test_initial_loss_is_that_of_uniform_pixels_plus_the_kl(whole):
    """784 ln 2 = 543.43 nats, plus a little for initial outputs other than 0."""
    first = whole.read_metrics()[0]
    assert (first["step"], first["split"]) == (0, "test")
    assert 541 < first["reconstruction"] < 570
    assert 0 < first["kl"] < 5


def test_linear_autoencoder_is_compared_with_pca(tmp_path):
    preset = AutoencoderRunConfig.from_flat(PRESETS["linear"])
    assert preset.batch_size == preset.data.train_images  # L-BFGS needs the full batch
    images = np.random.default_rng(0).integers(0, 256, (20, 4, 3, 1), dtype=np.uint8)
    examples = Examples({"images": images, "labels": np.zeros(20, int)})
    data = DataModule(examples, {"test": examples}, dict, {}, False, {"shape": [4, 3, 1]}, dict)
    task = build_task(preset, data.data_spec)
    params = task.init(jax.random.key(0))["params"]
    folder = RunFolder(tmp_path)
    folder.path.joinpath("arrays").mkdir()
    metrics = vae_latents.measure(task.model, params, data, preset.latents, folder, seed=0)
    assert metrics.keys() == {"pca_squared_error", "pca_angle"}
    assert folder.arrays("latent_map").exists()
    assert not folder.arrays("latent_units").exists()
