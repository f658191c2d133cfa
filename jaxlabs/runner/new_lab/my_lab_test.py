"""Tests of my_lab; run them with `pytest my_lab_test.py`."""

from pathlib import Path

import numpy as np

import jaxlabs as jl

FILE = Path(__file__).with_name("my_lab.py")


def test_training_lowers_the_loss_below_a_guess(tmp_path):
    """A guess has ln 2 = 0.69 nats."""
    run = jl.train(FILE, steps=200, platform="cpu", workdir=tmp_path / "run")
    assert run.summary["metrics"]["test_loss"] < 0.9 * np.log(2)


def test_sample_is_an_image_of_probabilities(tmp_path):
    """One image [1, height, width] of values between 0 and 1."""
    run = jl.train(FILE, steps=1, platform="cpu", workdir=tmp_path / "run")
    (image,) = run.sample()["images"]
    assert image.shape == (64, 64)
    assert 0 <= image.min() < image.max() <= 1
