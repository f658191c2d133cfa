"""Runs on a folder of images: read into memory, and resumed with images decoded on demand."""

import numpy as np
import pytest
from PIL import Image

from jaxlabs.labs.autoencoder import lab as autoencoder
from jaxlabs.labs.ddpm import lab as ddpm
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli

pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")

COMMON = "--steps=4 --batch_size=8 --eval_every=2 --checkpoint_every=2 --log_every=1"
LABS = {"autoencoder": autoencoder.LAB, "ddpm": ddpm.LAB}
FLAGS = {
    "autoencoder": "--hidden_size=8 --num_hidden_layers=1 --comparison_latent_dim=2"
    " --iwae_samples=2 --objective=ae --eval_batch_size=8",
    "ddpm": "--base_channels=4 --num_groups=2 --time_embed_dim=4 --grad_accum_steps=1"
    " --eval_batch_size=4 --num_eval_examples=2 --warmup_steps=1 --num_samples=8 --sampler_steps=2"
    " --class_conditional --nll_images=4 --nll_strata=2 --fid_samples=0",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """60 gray images of two classes."""
    root, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for index in range(60):
        path = root / ("a", "b")[index % 2] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return root


@pytest.mark.parametrize("name", FLAGS)
def test_run_is_resumed_with_images_that_are_decoded_on_demand(
    name, folder, tmp_path, cut_off, require_same_end, capsys
):
    lab = LABS[name]
    flags = [*COMMON.split(), *FLAGS[name].split(), f"--dataset={folder}", f"--data_dir={tmp_path}"]
    assert cli.run(lab, [*flags, f"--workdir={tmp_path / 'run'}"]) == 0
    assert not (tmp_path / "prepared").exists()
    rest = cut_off(RunFolder(tmp_path / "run"))
    capsys.readouterr()
    assert cli.run(lab, [*flags, f"--workdir={rest.path}", "--memory_limit=0"]) == 0
    assert "resuming at step 2" in capsys.readouterr().err
    assert (tmp_path / "prepared").exists()
    require_same_end(rest, RunFolder(tmp_path / "run"))
