"""Tests of jaxlabs/training/task.py: what the engine derives from a task, and what it refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from jaxlabs.config import UserError
from jaxlabs.data.batches import Examples
from jaxlabs.training.task import is_stochastic, require_trainable


def with_loss(task, factor):
    """Multiplies the loss of a task by `factor(key, step, train)`."""

    def loss(model, variables, batch, key, *, train, step=0, **options):
        output = task.loss(model, variables, batch, key, train=train, step=step, **options)
        return output._replace(loss_sum=output.loss_sum * factor(key, step, train))

    return dataclasses.replace(task, loss=loss)


@pytest.mark.parametrize(
    ("factor", "expected"),
    [
        (lambda key, step, train: 1.0, False),
        (lambda key, step, train: jax.random.uniform(key) + step, True),
        (lambda key, step, train: jax.random.uniform(key), True),
        (lambda key, step, train: 1.0 + step, True),
        (lambda key, step, train: 1.0 if train else jax.random.uniform(key), False),
    ],
    ids=["deterministic", "both", "key", "step", "key in evaluation"],
)
def test_loss_is_stochastic_if_it_uses_its_key_or_the_step(make_task, make_data, factor, expected):
    task = with_loss(make_task(), factor)
    assert is_stochastic(task, make_data().train, 8) == expected


def test_step_is_that_of_the_loss_unless_the_task_has_one(make_task):
    task = make_task()
    assert task.step is task.train_step
    plain = dataclasses.replace(task, train_step=None)
    assert plain.step is plain.step
    assert with_loss(plain, lambda *_: 2.0).step is not plain.step


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_loss_with_dropout_is_stochastic(make_task, make_data, dropout):
    assert is_stochastic(make_task(dropout=dropout), make_data().train, 8) == (dropout > 0)


def test_random_metric_is_no_random_loss(make_task, make_data):
    task = make_task()

    def loss(model, variables, batch, key, **options):
        output = task.loss(model, variables, batch, key, **options)
        return output._replace(metric_sums={"noise": jax.random.uniform(key)})

    assert not is_stochastic(dataclasses.replace(task, loss=loss), make_data().train, 8)


def test_batch_coupled_loss_refuses_micro_batches(make_task, make_data, make_config):
    task = dataclasses.replace(make_task(), batch_coupled=True)
    require_trainable(task, make_config(), make_data().train)
    with pytest.raises(UserError, match=r"^grad_accum_steps: 2 is not accepted; 1, since the loss"):
        require_trainable(task, make_config(grad_accum_steps=2), make_data().train)


def test_additive_loss_accepts_micro_batches(make_task, make_data, make_config):
    require_trainable(make_task(), make_config(grad_accum_steps=2), make_data().train)


def test_full_batch_optimizer_refuses_running_statistics_and_a_carry(
    make_task, make_batch, make_config
):
    data = Examples(make_batch())
    config = make_config(
        optimizer="lbfgs", batch_size=data.count, grad_clip_norm=None, ema_decay=0.0
    )
    carried = dataclasses.replace(make_task(), init_carry=lambda size: jnp.zeros((size, 2)))
    for task in (make_task(statistics=True), carried):
        with pytest.raises(UserError, match=r"^optimizer: lbfgs updates neither running"):
            require_trainable(task, config, data)
    require_trainable(make_task(), config, data)
