"""Tests of jaxlabs/training/schedules.py against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.training.optimizer_config import OptimizerConfig
from jaxlabs.training.schedules import build_schedule


def closed_form(kind, step, steps, warmup, decay, final):
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if kind == "constant" or step < steps - decay:
        return 1.0
    fraction = min((step - (steps - decay)) / decay, 1.0)
    shape = 0.5 * (1 + np.cos(np.pi * fraction)) if kind == "cosine" else 1 - fraction
    return final + (1 - final) * shape


@pytest.mark.parametrize("kind", ["constant", "cosine", "linear"])
@pytest.mark.parametrize(
    ("warmup", "decay", "final"),
    [(0, None, 0.0), (4, None, 0.1), (3, 5, 0.2), (0, 20, 0.0), (8, 12, 0)],
)
def test_schedule_has_its_closed_form_at_every_step(kind, warmup, decay, final):
    steps = 20
    config = OptimizerConfig(
        lr_schedule=kind, warmup_steps=warmup, decay_steps=decay, end_lr_ratio=final
    )
    schedule = build_schedule(config, steps)
    decay_steps = steps - warmup if decay is None else decay
    expected = [closed_form(kind, k, steps, warmup, decay_steps, final) for k in range(steps + 1)]
    found = [float(schedule(step)) for step in range(steps + 1)]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(jax.jit(jax.vmap(schedule))(jnp.arange(steps + 1)), found, atol=1e-6)
    assert min(found[:-1]) > 0  # no step has rate 0
    if kind != "constant":
        np.testing.assert_allclose(found[-1], final, atol=1e-6)


def test_warm_up_without_a_step_for_the_decay_is_refused():
    with pytest.raises(UserError) as caught:
        build_schedule(OptimizerConfig(lr_schedule="cosine", warmup_steps=10), 10)
    assert str(caught.value) == (
        "warmup_steps: 10 is not accepted with a cosine schedule of `steps` 10; "
        "an integer below the number of steps"
    )


@pytest.mark.parametrize(("warmup", "decay"), [(6, 5), (0, 11), (9, 100)])
def test_too_long_decay_begins_after_warm_up(warmup, decay):
    settings = {"lr_schedule": "linear", "warmup_steps": warmup}
    cut = build_schedule(OptimizerConfig(**settings, decay_steps=decay), 10)
    whole = build_schedule(OptimizerConfig(**settings), 10)
    np.testing.assert_array_equal([cut(i) for i in range(11)], [whole(i) for i in range(11)])


def test_warm_up_longer_than_the_run_is_refused():
    with pytest.raises(UserError, match=r"^warmup_steps: 11 is not accepted"):
        build_schedule(OptimizerConfig(lr_schedule="linear", warmup_steps=11), 10)


def test_run_without_steps_has_a_schedule():
    assert float(build_schedule(OptimizerConfig(lr_schedule="cosine"), 0)(0)) == 1.0
    assert float(build_schedule(OptimizerConfig(lr_schedule="cosine", warmup_steps=3), 0)(0)) > 0
