"""Runs on a mesh: the result is that of one device, and a run may change its mesh."""

import functools
import shutil

import chex
import jax
import numpy as np
import pytest

MESH = "fsdp:2,tensor:2"
FLAGS = {"grad_accum_steps": 2, "keep_checkpoints": 3}


@pytest.fixture(scope="module")
def run(start, make_task):
    """`run(path, ...)`: trains a task whose arrays can be split."""
    return functools.partial(start, task=make_task(dropout=0.2, mlp_dim=8), **FLAGS)


@pytest.fixture(scope="module")
def split(run, tmp_path_factory):
    """A run of 12 steps on a mesh."""
    return run(tmp_path_factory.mktemp("split") / "run", devices=4, mesh=MESH)


def cut_off(folder, step, path):
    """Copies a run folder without the checkpoints after a step."""
    copy = type(folder)(shutil.copytree(folder.path, path))
    for saved in copy.checkpoints.iterdir():
        if int(saved.name) > step:
            shutil.rmtree(saved)
    return copy


def test_run_on_a_mesh_equals_one_device(split, run, tmp_path, arrays):
    (ours, folder), (theirs, other_folder) = split, run(tmp_path / "one")
    chex.assert_trees_all_close(arrays(ours.state), arrays(theirs.state), rtol=1e-5, atol=1e-6)
    for row, other in zip(folder.read_metrics(), other_folder.read_metrics(), strict=True):
        np.testing.assert_allclose(row["loss"], other["loss"], rtol=1e-5)


def test_optimizer_and_ema_are_split_as_the_parameters_are(split):
    def parts(tree):
        return {
            leaf.shape: leaf.sharding.shard_shape(leaf.shape)
            for leaf in jax.tree.leaves(tree)
            if leaf.ndim == 2
        }

    state = split[0].state
    embedding, block, head = (((7, 4), (7, 2)), ((4, 4), (2, 4)), ((4, 7), (2, 7)))
    feed_forward = ((4, 8), (2, 4)), ((8, 4), (4, 2))
    assert parts(state.params) == dict([embedding, block, head, *feed_forward])
    for tree in (state.opt_state, state.ema_params):
        assert parts(tree) == parts(state.params)


def test_sample_and_callbacks_get_whole_arrays_of_the_host(run, tmp_path):
    seen = []

    def callback(step, state, metrics):
        seen.append(state)

    def sample(state):
        seen.append(state)
        return "text"

    options = {"sample": sample, "callbacks": [callback], "steps": 4}
    run(tmp_path / "run", devices=4, mesh=MESH, **options)
    assert len(seen) == 4
    for state in seen:
        assert state.mesh is None
        leaves = jax.tree.leaves((state.params, state.ema_params))
        assert all(isinstance(leaf, np.ndarray) for leaf in leaves)
        assert state.eval_params["up_proj"]["kernel"].shape == (4, 8)


def test_run_resumes_to_the_bit_on_the_same_mesh(split, run, tmp_path, assert_same_run):
    copy = cut_off(split[1], 4, tmp_path / "copy")
    assert_same_run(run(copy.path, devices=4, mesh=MESH), split)


def test_run_that_changes_its_mesh_ends_as_one_that_does_not(split, run, tmp_path, arrays):
    copy = cut_off(split[1], 4, tmp_path / "data")
    run(copy.path, devices=4)
    copy = cut_off(copy, 8, tmp_path / "one")
    result, _ = run(copy.path)
    ours, theirs = arrays(result.state), arrays(split[0].state)
    chex.assert_trees_all_close(ours, theirs, rtol=1e-5, atol=1e-6)
    losses = [[row["loss"] for row in each.read_metrics()] for each in (copy, split[1])]
    np.testing.assert_allclose(*losses, rtol=1e-5)
