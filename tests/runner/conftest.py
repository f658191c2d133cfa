"""Fixtures of the tests of the command line."""

import copy

import numpy as np
import pytest

from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli


@pytest.fixture(autouse=True)
def here(here):
    """Runs every test in its own empty working directory."""
    return here


@pytest.fixture(scope="module")
def trained(tiny_flags, reused_executables, tmp_path_factory):
    """The folder of a complete run; read-only."""
    path = tmp_path_factory.mktemp("trained") / "run"
    assert cli.run(LAB, [*tiny_flags, "--steps=4", f"--workdir={path}"]) == 0
    return path


@pytest.fixture
def refused(capsys):
    """`refused(*flags) -> line`: asserts status 2 and one line on stderr, and returns it.

    Nothing is on stdout, unless `late=True`: then a part of the work was done before.
    """

    def refuse(*flags, late=False):
        capsys.readouterr()
        status = cli.run(LAB, flags)
        out, err = capsys.readouterr()
        assert status == 2, err
        assert late or out == ""
        assert err.startswith("gpt: ")
        assert err.endswith("\n")
        assert err.count("\n") == 1, err
        return err.removeprefix("gpt: ").removesuffix("\n")

    return refuse


CONFIG = {
    "experiment": "gpt",
    "preset": "quick",
    "settings": LAB.config_class.from_flat(LAB.presets["quick"]).flat(),
    "dataset": {"name": "markov", "sha256": "ab" * 32},
    "device": {"platform": "cpu", "kind": "cpu", "devices": 1},
    "loss_unit": "nats",
}
LOSSES = (3.0, 2.5, 2.1, 1.8)
"""At steps 0, 10, 20 and 30, that is after 0, 1, 2 and 3 seconds."""


@pytest.fixture
def write_run(here):
    """`write_run(name, losses, config={}, **settings) -> name`: writes a finished run."""

    def write(name, losses=LOSSES, *, seconds=3.0, flops=1e6, split="held_out", config=(), **given):
        folder = RunFolder(here / name)
        folder.create()
        content = copy.deepcopy(CONFIG) | dict(config)
        content["settings"] |= {"steps": 30} | given
        folder.write_config(content)
        times = np.linspace(0, seconds, len(losses))
        rows = [
            {"step": 10 * i, "split": split, "loss": loss, "seconds": times[i]}
            for i, loss in enumerate(losses)
        ]
        folder.append_metrics(rows)
        folder.write_summary(
            {
                "experiment": content["experiment"],
                "preset": "quick",
                "steps": 10 * (len(losses) - 1),
                "seconds": seconds,
                "flops_per_step": flops,
                "metrics": {f"{split}_loss": losses[-1], "sample_real_words": 0.5},
                "comparison": [],
                "environment": {},
            }
        )
        return name

    return write


@pytest.fixture
def write_seeds(write_run):
    """`write_seeds(name, ends, **settings) -> names`: runs with seeds 0, 1, ... by last loss."""

    def write(name, ends, **given):
        return [
            write_run(f"{name}-{seed}", (*LOSSES[:-1], end), seed=seed, **given)
            for seed, end in enumerate(ends)
        ]

    return write
