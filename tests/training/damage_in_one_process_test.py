"""Damage that only one of two processes sees: both restore the same earlier step."""

import shutil
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxlabs.training.checkpoints import Checkpoints

WORKER = Path(__file__).with_name("damage_worker.py")
sys.path.append(str(WORKER.parent))

from damage_worker import NEWEST, numbered  # noqa: E402


def write(path):
    """Writes checkpoints of steps 1 to NEWEST."""
    with Checkpoints(path, keep=NEWEST) as checkpoints:
        for step in range(1, NEWEST + 1):
            checkpoints.save(jax.device_put(numbered(step)), {}, None)


def without_metadata(checkpoint):
    shutil.rmtree(checkpoint / "facts")


def truncated(checkpoint):
    for file in checkpoint.glob("state/d/*"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def other_values(checkpoint):
    """The arrays can be read; only their checksum is wrong."""
    shutil.rmtree(checkpoint / "state")
    shutil.copytree(checkpoint.parent / "1" / "state", checkpoint / "state")


DAMAGE = {"metadata": without_metadata, "file": truncated, "values": other_values}


@pytest.fixture(scope="module")
def restored(tmp_path_factory, free_port, run_together):
    """The folder of checkpoints, and the arrays and the standard error of each process."""
    folder, out = tmp_path_factory.mktemp("damaged"), tmp_path_factory.mktemp("out")
    write(folder / "none")
    shutil.copytree(folder / "none", folder / "none-seen")
    for name, damage in DAMAGE.items():
        shutil.copytree(folder / "none", folder / name)
        shutil.copytree(folder / "none", folder / f"{name}-seen")
        damage(folder / f"{name}-seen" / str(NEWEST))
    port = free_port()
    outputs = [out / f"{number}.npz" for number in range(2)]
    commands = [
        [sys.executable, str(WORKER), str(port), str(number), str(folder), str(output)]
        for number, output in enumerate(outputs)
    ]
    errors = [error for _, error in run_together(commands)]
    return folder, [dict(np.load(output)) for output in outputs], errors


def test_undamaged_checkpoint_is_gathered_from_both_processes(restored):
    for arrays in restored[1]:
        np.testing.assert_array_equal(arrays["none.sharded"], np.arange(8) + NEWEST)
        np.testing.assert_array_equal(arrays["none.replicated"], np.full(3, NEWEST))
        assert arrays["none.steps"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("damage", DAMAGE)
def test_both_processes_restore_the_step_before_the_damage_and_continue(restored, damage):
    folder, processes, errors = restored
    for arrays in processes:
        np.testing.assert_array_equal(arrays[f"{damage}.sharded"], np.arange(8) + NEWEST - 1)
        np.testing.assert_array_equal(arrays[f"{damage}.replicated"], np.full(3, NEWEST - 1))
        assert arrays[f"{damage}.steps"].tolist() == [1, 2]
        assert arrays[f"{damage}.after"] == NEWEST + 1
    assert [path.name for path in (folder / damage / "damaged").iterdir()] == [str(NEWEST)]
    assert errors[0].count("another process could not read it") >= 2
