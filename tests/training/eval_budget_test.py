"""Evaluations of a long text during training cost about a tenth of the training."""

import dataclasses

import numpy as np
import pytest

from jaxlabs.data import windows
from jaxlabs.data.dataset import DataModule
from jaxlabs.training import eval_budget

CONTEXT = 16


def data_of(held_out, eval_tokens=None):
    """Data of a text with so many held-out tokens."""
    train, rest = np.zeros(3000, np.uint8), np.zeros(held_out, np.uint8)
    return DataModule(
        train=windows.token_stream(train, CONTEXT),
        eval_sets={
            "held_out": windows.consecutive_windows(rest, CONTEXT, eval_tokens),
            "train_windows": windows.evenly_spaced_windows(train, CONTEXT, 20),
            "train_and_val": windows.random_windows(train, CONTEXT, 20, seed=0),
        },
        text_tokens=dict.fromkeys(("held_out", "sliding_window"), held_out - 1),
    )


def test_part_up_to_the_limit_is_evaluated_as_a_whole(make_config):
    assert eval_budget.tokens_per_evaluation(make_config(), data_of(500_001)) is None
    assert eval_budget.tokens_per_evaluation(make_config(), data_of(500_002)) is not None


def test_the_budget_goes_by_the_length_of_the_text_and_not_by_the_final_evaluation(make_config):
    config = make_config()
    long, short = data_of(600_000, eval_tokens=10**6), data_of(2000, eval_tokens=1999)
    assert eval_budget.tokens_per_evaluation(config, long) is not None
    assert eval_budget.tokens_per_evaluation(config, short) is None
    assert eval_budget.tokens_per_evaluation(config, data_of(2000, eval_tokens=500)) is not None


@pytest.mark.parametrize(("steps", "eval_every"), [(1000, 100), (990, 100), (1000, 1000), (7, 50)])
def test_evaluations_cost_a_tenth_of_the_training(make_config, steps, eval_every):
    config = make_config(steps=steps, eval_every=eval_every, batch_size=40, eval_batch_size=1)
    tokens = eval_budget.tokens_per_evaluation(config, data_of(500_002))
    evaluations = 1 + len({*range(eval_every, steps, eval_every), steps})
    forward_passes = 3 * steps * 40 * CONTEXT
    assert tokens * evaluations == pytest.approx(forward_passes / 10, rel=1e-3)


def test_an_evaluation_reads_a_batch_at_least(make_config):
    for steps in (0, 1):
        sizes = {"batch_size": 1, "eval_batch_size": 8, "warmup_steps": 0}
        config = make_config(steps=steps, eval_every=1, **sizes)
        assert eval_budget.tokens_per_evaluation(config, data_of(500_002)) == 8 * CONTEXT


def test_data_without_a_text_have_no_budget(make_config, make_data):
    data = make_data()
    assert eval_budget.tokens_per_evaluation(make_config(), data) is None
    assert eval_budget.subsample(data.eval_sets, data.monitor, None) == data.eval_sets


@pytest.mark.parametrize("tokens", [48, 160, 1000, 1300, 10**6])
def test_share_is_evenly_spaced_and_within_the_budget(tokens):
    data = data_of(2001)
    numbered = {
        name: dataclasses.replace(part, arrays=part.arrays | {"i": np.arange(part.count)})
        for name, part in data.eval_sets.items()
    }
    parts = eval_budget.subsample(numbered, data.monitor, tokens)
    assert list(parts) == list(numbered)
    read = sum(map(eval_budget.read_tokens, parts.values()))
    assert read <= tokens
    assert read > min(tokens, 2000 + 2 * 20 * CONTEXT) - 3 * CONTEXT  # less than a window of each
    held_out = parts["held_out"].arrays["i"]
    assert 2 * len(held_out) >= tokens // CONTEXT - 1 or len(held_out) == 125
    for part in parts.values():
        kept = part.arrays["i"]
        assert kept[0] == 0
        assert len(np.unique(kept)) == len(kept)
        assert np.ptp(np.diff(kept)) <= 1 if len(kept) > 2 else True
