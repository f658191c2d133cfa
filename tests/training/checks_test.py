"""Each check passes on a right task and fails on a task with one fault."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.losses.loss_output import LossOutput
from jaxlabs.training import checks
from jaxlabs.training.checks import Failed
from jaxlabs.training.devices import MeshSharding
from jaxlabs.training.step import build_train_step


@jax.custom_vjp
def scaled(x):
    return x


scaled.defvjp(lambda x: (x, None), lambda _, gradient: (1.01 * gradient,))


@pytest.fixture(scope="module")
def case(make_task, make_data, make_config, make_placement):
    """`case(loss=None)`: the toy task, perhaps with another loss."""
    task, config = make_task(dropout=0.2), make_config(seed=1)

    @functools.cache
    def make(change=None):
        if change is None:
            changed = task
        else:
            loss = functools.partial(change, task.loss)
            changed = dataclasses.replace(task, loss=loss, train_step=build_train_step(loss))
        return checks.make_case(changed, config, make_placement(), make_data().train)

    return make


def mean_loss(loss, *arguments, **options):
    """Averages over the batch instead of adding."""
    output = loss(*arguments, **options)
    return LossOutput(output.loss_sum / output.weight_sum, jnp.float32(1), {})


def centered_loss(loss, model, variables, batch, key, **options):
    """Depends on the mean of the batch, like BatchNorm, without saying so."""
    output = loss(model, variables, batch, key, **options)
    return output._replace(loss_sum=output.loss_sum**2 / output.weight_sum)


def reused_key_loss(loss, model, variables, batch, key, **options):
    """Takes the same noise for the examples of every micro-batch."""
    noise = jax.random.uniform(key, batch["weights"].shape)
    return loss(model, variables, batch | {"weights": batch["weights"] * noise}, key, **options)


def unlearnable_loss(loss, model, variables, *arguments, **options):
    return loss(model, jax.lax.stop_gradient(variables), *arguments, **options)


def wrong_gradient_loss(loss, model, variables, *arguments, **options):
    embedding = variables["params"]["embedding"]["embedding"]
    params = variables["params"] | {"embedding": {"embedding": scaled(embedding)}}
    return loss(model, variables | {"params": params}, *arguments, **options)


def float32_loss(loss, *arguments, **options):
    output = loss(*arguments, **options)
    return output._replace(loss_sum=output.loss_sum.astype(jnp.float32))


def test_right_task_passes(case, make_placement):
    assert "steps" in checks.overfits_one_batch(case())
    assert "of the gradient" in checks.micro_batches_equal_the_batch(case())
    assert "relative difference" in checks.gradients_equal_differences(case())
    placements = (make_placement(1), make_placement(4))
    assert "of the gradient" in checks.devices_equal_one(case(), placements)


@pytest.mark.parametrize("loss", [mean_loss, centered_loss, reused_key_loss])
def test_loss_that_does_not_add_up_fails_with_micro_batches(case, loss):
    with pytest.raises(Failed, match=r"^relative difference of the loss [\d.]+e-0[0-4]"):
        checks.micro_batches_equal_the_batch(case(loss))


def test_loss_without_a_gradient_overfits_nothing(case, monkeypatch):
    monkeypatch.setattr(checks, "OVERFIT_STEPS", 20)
    with pytest.raises(Failed, match=r"in 20 steps; not halved$"):
        checks.overfits_one_batch(case(unlearnable_loss))


def test_non_finite_loss_overfits_nothing(case):
    def nonfinite(loss, *arguments, **options):
        output = loss(*arguments, **options)
        return output._replace(loss_sum=output.loss_sum / 0)

    with pytest.raises(Failed, match=r"^the loss is inf at step 0$"):
        checks.overfits_one_batch(case(nonfinite))


def test_custom_gradient_off_by_a_percent_is_found_and_named(case):
    with pytest.raises(Failed, match=r"^relative difference [45]\.\de-03, of embedding.embedding$"):
        checks.gradients_equal_differences(case(wrong_gradient_loss))


def test_loss_in_float32_is_named_instead_of_its_differences(case):
    with pytest.raises(Failed, match=r"^the loss is float32 where its inputs are float64"):
        checks.gradients_equal_differences(case(float32_loss))


class Lossy(MeshSharding):
    """Forgets the examples of the last device."""

    def shard_batch(self, batch):
        weights = batch["weights"].at[-2:].set(0)
        return super().shard_batch(batch | {"weights": weights})


def test_devices_that_lose_examples_fail(case, make_placement):
    placements = (make_placement(1), Lossy(make_placement(4).mesh))
    with pytest.raises(Failed, match=r"^relative difference of the loss"):
        checks.devices_equal_one(case(), placements)


def test_parts_of_the_batch_have_different_weights(case):
    weights = np.asarray(case().batch["weights"]).sum(1)
    np.testing.assert_array_equal(weights > 0, [True, False, False, False, True, True, True, True])
