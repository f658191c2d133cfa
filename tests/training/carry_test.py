"""Tests of the carry of training/step.py: split and merged with the examples, never summed."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlabs.data.batches import ContiguousStreams
from jaxlabs.losses.loss_output import LossOutput
from jaxlabs.run_folder import RunFolder
from jaxlabs.training.checkpoints import Checkpoints
from jaxlabs.training.state import create_state
from jaxlabs.training.step import build_train_step
from jaxlabs.training.task import Task
from jaxlabs.training.trainer import Trainer

BATCH = 8
DESCENT = optax.sgd(0.1)


def carried_loss(model, variables, batch, key, *, carry, **_):
    """One step of a scalar RNN; the carry is its state and the number of batches."""
    params, count, h = variables["params"], carry["count"], carry["h"]
    h = jnp.tanh(params["u"] * batch["x"] + params["w"] * h)
    carry = {"count": count + 1, "h": h}
    total = jnp.sum(batch["weights"] * (h - batch["y"]) ** 2)
    return LossOutput(total, batch["weights"].sum(), {}, carry=carry)


step = build_train_step(carried_loss)


def state_of(**options):
    params = {"u": jnp.float32(0.5), "w": jnp.float32(0.7)}
    carry = {"count": jnp.zeros(BATCH, jnp.int32), "h": jnp.linspace(-1, 1, BATCH)}
    return create_state(None, {"params": params}, DESCENT, carry=carry, **options)


def batch_of(seed=0):
    random = np.random.default_rng(seed)
    x, y = random.standard_normal((2, BATCH)).astype(np.float32)
    return {"x": x, "y": y, "weights": np.arange(BATCH, dtype=np.float32)}


@pytest.fixture(scope="module")
def three_steps():
    """State and metrics after three steps of the full batch, as numpy arrays."""
    state = state_of()
    for number in range(3):
        state, metrics = step(state, batch_of(number), jax.random.key(0))
    return jax.device_get((state, metrics))


def assert_same(ours, theirs):
    chex.assert_trees_all_close(jax.device_get(ours), theirs, rtol=1e-6, atol=1e-7)


def test_carry_is_passed_to_the_next_step(three_steps):
    u, w, h = 0.5, 0.7, np.linspace(-1, 1, BATCH)
    for number in range(3):
        batch = batch_of(number)
        new = np.tanh(u * batch["x"] + w * h)
        slope = 2 * batch["weights"] * (new - batch["y"]) * (1 - new**2) / batch["weights"].sum()
        # The gradient stops at the carry: h is a constant.
        u, w, h = u - 0.1 * slope @ batch["x"], w - 0.1 * slope @ h, new
    state, _ = three_steps
    np.testing.assert_allclose(state.carry["h"], h, rtol=1e-5)
    np.testing.assert_allclose([state.params["u"], state.params["w"]], [u, w], rtol=1e-5)
    np.testing.assert_array_equal(state.carry["count"], 3)


@pytest.mark.parametrize("count", [2, 8])
def test_micro_batches_have_the_carry_of_the_full_batch(three_steps, count):
    state = state_of(grad_accum_steps=count)
    for number in range(3):
        state, metrics = step(state, batch_of(number), jax.random.key(0))
    expected, expected_metrics = three_steps
    assert_same((state, metrics), (expected.replace(grad_accum_steps=count), expected_metrics))


def test_each_device_has_the_carry_of_its_examples(three_steps):
    """Under pmap each device has its rows of the carry; on a mesh the array is global."""
    state = state_of()
    split = jax.tree.map(lambda leaf: leaf.reshape(4, 2), state.carry)
    state = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), state.replace(carry=None))
    state = state.replace(carry=split)
    mapped = jax.pmap(
        functools.partial(step, axis_name="batch"),
        axis_name="batch",
        in_axes=(0, 0, None),
        devices=jax.devices()[:4],
    )
    for number in range(3):
        batch = {name: leaf.reshape(4, 2) for name, leaf in batch_of(number).items()}
        state, metrics = mapped(state, batch, jax.random.key(0))
    expected, expected_metrics = three_steps
    joined = jax.tree.map(lambda leaf: leaf.reshape(BATCH), jax.device_get(state.carry))
    assert_same(joined, expected.carry)
    for device in range(4):
        pick = lambda leaf, device=device: np.asarray(leaf)[device]  # noqa: E731
        assert_same(
            jax.tree.map(pick, (state.params, metrics)), (expected.params, expected_metrics)
        )


def test_mesh_has_the_carry_of_one_device(three_steps, make_placement):
    placement = make_placement(4)
    state = placement.replicate(state_of(grad_accum_steps=2))
    for number in range(3):
        batch = jax.device_put(batch_of(number), placement.batch_sharding)
        state, metrics = step(state, batch, jax.random.key(0))
    expected, expected_metrics = three_steps
    assert_same((state, metrics), (expected.replace(grad_accum_steps=2), expected_metrics))


def test_skipped_step_keeps_the_old_carry():
    state, initial = state_of(), jax.device_get(state_of().carry)
    bad = batch_of()
    bad["y"][-1] = np.inf
    state, metrics = step(state, bad, jax.random.key(0))
    assert int(metrics["skipped"]) == 1
    chex.assert_trees_all_equal(jax.device_get(state.carry), initial)


def test_interrupted_run_resumes_with_its_carry(
    make_task, make_data, make_config, make_placement, tmp_path
):
    """The carry counts the tokens of each row, and the loss depends on it."""
    toy = make_task()

    def loss(model, variables, batch, key, *, train, carry=None, **_):
        counts = jnp.zeros((batch["inputs"].shape[0], 7))
        if train:
            counts = jnp.where(batch["is_first"][:, None], 0, carry)
        counts = counts + jax.nn.one_hot(batch["inputs"], 7).sum(1)
        output = toy.loss(model, variables, batch, key, train=train)
        term = jnp.sum(jnp.tanh(counts) * variables["params"]["head"]["bias"][None])
        return output._replace(loss_sum=output.loss_sum + term, carry=counts)

    carry = lambda batch_size: jnp.zeros((batch_size, 7))  # noqa: E731
    task = Task(toy.model, toy.init, loss, build_train_step(loss), init_carry=carry)
    text = np.random.default_rng(0).integers(0, 7, 220).astype(np.uint8)
    data = make_data()
    data = type(data)(**(vars(data) | {"train": ContiguousStreams(tokens=text, context_length=6)}))

    def run(name, *steps):
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir()
        for count in steps:
            config = make_config(steps=count, lr_schedule="constant")
            with Checkpoints(folder.checkpoints, 2) as checkpoints:
                arguments = task, data, config, make_placement(), folder, checkpoints, {}
                state = Trainer(*arguments).train().state
        return jax.device_get(state)

    whole, resumed = run("whole", 11), run("resumed", 5, 11)
    assert whole.carry.sum() == BATCH * 6 * 2  # reset at steps 0, 3, 6 and 9
    chex.assert_trees_all_equal(resumed.carry, whole.carry)
    chex.assert_trees_all_equal(resumed.params, whole.params)
