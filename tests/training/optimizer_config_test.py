"""Tests of jaxlabs/training/optimizer_config.py."""

import dataclasses

import pytest

from jaxlabs.config import UserError
from jaxlabs.training.optimizer_config import (
    SCHEDULE,
    SETTINGS,
    OptimizerConfig,
    divergence_flags,
    require_used,
)


def test_ema_decay_of_one_is_refused():
    with pytest.raises(UserError) as caught:
        OptimizerConfig(ema_decay=1.0)
    assert str(caught.value) == (
        "ema_decay: 1.0 is not accepted; a number of at least 0 and below 1"
    )


def test_weight_decay_is_0_by_default_for_sgd_alone():
    decays = {name: OptimizerConfig(optimizer=name).flat()["weight_decay"] for name in SETTINGS}
    assert decays == dict.fromkeys(SETTINGS, 0.01) | {"sgd": 0.0}
    assert OptimizerConfig(optimizer="sgd", weight_decay=0.01).weight_decay == 0.01


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(UserError, match=r"^nesterov: true is not accepted with `momentum` 0; "):
        OptimizerConfig(optimizer="sgd", nesterov=True)


@pytest.mark.parametrize("name", SETTINGS)
def test_setting_of_another_optimizer_is_refused_when_given(name):
    config = [OptimizerConfig(optimizer=name, lr_schedule="cosine")]
    require_used(config, [*SETTINGS[name], "optimizer", "grad_clip_norm", "steps"])
    for unused in set().union(*SETTINGS.values()).difference(SETTINGS[name]):
        with pytest.raises(UserError, match=f"^{unused}: not used by `optimizer` {name}; only by "):
            require_used(config, [unused])


@pytest.mark.parametrize("name", ["decay_steps", "end_lr_ratio"])
def test_setting_of_the_decay_is_refused_with_a_constant_rate(name):
    with pytest.raises(UserError, match=f"^{name}: not used by `lr_schedule` constant; only by "):
        require_used([OptimizerConfig()], [name])
    require_used([OptimizerConfig(), OptimizerConfig(lr_schedule="linear")], [name])


def test_every_setting_of_few_optimizers_names_them_in_its_help():
    fields = {field.name: field for field in dataclasses.fields(OptimizerConfig)}
    for setting in set().union(*SETTINGS.values()).difference(SCHEDULE):
        for optimizer in (name for name, used in SETTINGS.items() if setting in used):
            assert optimizer in fields[setting].metadata["help"]


@pytest.mark.parametrize("name", ["adam_b1", "adam_b2", "ema_decay"])
@pytest.mark.parametrize("value", [1.0, 0.99999999, -0.1])
def test_decay_rate_of_one_is_refused(name, value):
    with pytest.raises(UserError, match=f"^{name}: {value} is not accepted; a number .* below 1"):
        OptimizerConfig.from_flat({name: value})
    OptimizerConfig.from_flat({name: 0.0})
    OptimizerConfig.from_flat({name: 0.9999})


def test_divergence_flags_are_the_rate_and_values_above_their_defaults():
    assert divergence_flags(OptimizerConfig()) == "--learning_rate=0.001"
    decay = OptimizerConfig(weight_decay=1e30, adam_b1=0.999)
    assert divergence_flags(decay) == "--learning_rate=0.001, --weight_decay=1e+30, --adam_b1=0.999"
    assert divergence_flags(OptimizerConfig(optimizer="muon")) == "--muon_learning_rate=0.02"
    sgd = OptimizerConfig(optimizer="sgd", momentum=0.9, adam_b1=0.999)
    assert divergence_flags(sgd) == "--learning_rate=0.001, --momentum=0.9"
