import dataclasses
import math

import jax
import numpy as np
import pytest

from jaxlabs.models.transformer_lm import TransformerLM, TransformerLMConfig
from jaxlabs.training.state import count_parameters

torch = pytest.importorskip("torch")
from jaxlabs.benchmark.peers import nanogpt  # noqa: E402
from jaxlabs.benchmark.peers.torch_models import GPT  # noqa: E402

pytestmark = pytest.mark.peers

TINY = dataclasses.replace(
    nanogpt.CPU_RECIPE,
    vocab_size=5,
    context_length=8,
    embed_dim=8,
    num_layers=1,
    num_heads=2,
    mlp_dim=16,
)


def test_learning_rate_warms_up_and_decays_to_a_tenth():
    assert nanogpt.learning_rate(0, 0.0) == pytest.approx(1e-3 / 101)
    assert nanogpt.learning_rate(100, 0.0) == pytest.approx(1e-3)
    assert nanogpt.learning_rate(1000, 0.5) == pytest.approx(5.5e-4)
    assert nanogpt.learning_rate(2000, 1.0) == pytest.approx(1e-4)


@pytest.mark.parametrize(
    "config",
    [
        TransformerLMConfig(vocab_size=5, num_layers=2),
        nanogpt.CPU_RECIPE,
        dataclasses.replace(nanogpt.CPU_RECIPE, qkv_bias=True, bias=True, num_layers=1),
    ],
)
def test_pytorch_gpt_has_as_many_parameters_as_ours(config):
    tokens = np.zeros((1, 4), np.int32)
    ours = jax.eval_shape(TransformerLM(config).init, jax.random.key(0), tokens)["params"]
    theirs = sum(parameter.numel() for parameter in GPT(config).parameters())
    assert theirs == count_parameters(ours)


def test_held_out_loss_counts_every_target_once():
    gpt = GPT(TINY)
    tokens = np.random.default_rng(0).integers(0, 5, 30)
    losses = []
    for first in range(0, 29, 8):
        inputs = torch.tensor(tokens[first : min(first + 8, 29)])[None]
        with torch.no_grad():
            log_probabilities = gpt(inputs).log_softmax(-1)[0]
        targets = tokens[first + 1 : first + 1 + inputs.shape[1]]
        losses += [-float(row[t]) for row, t in zip(log_probabilities, targets, strict=True)]
    assert len(losses) == 29
    got = nanogpt.held_out_loss(gpt, tokens, 8, batch_size=3)
    assert got == pytest.approx(sum(losses) / 29, rel=1e-5)
    assert gpt.training


def test_training_stops_by_steps_or_time_and_learns():
    tokens = np.tile(np.arange(5), 100)
    curve = nanogpt.train_nanogpt(tokens, tokens[:50], config=TINY, steps=120, evaluate_every=50)
    assert [point.step for point in curve] == [50, 100, 120]
    assert curve[-1].held_out < curve[0].held_out < math.log(5)
    again = nanogpt.train_nanogpt(tokens, tokens[:50], config=TINY, steps=120, evaluate_every=50)
    assert again[-1].held_out == pytest.approx(curve[-1].held_out, rel=1e-4)
    timed = nanogpt.train_nanogpt(tokens, tokens[:50], config=TINY, seconds=0.05)
    assert timed[-1].seconds >= 0.05


@pytest.mark.parametrize(
    "options",
    [{"positions": "rotary"}, {"norm": "rmsnorm"}, {"qk_norm": True}, {"short_conv_width": 4}],
    ids=str,
)
def test_unsupported_options_are_refused(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}: the PyTorch GPT supports"):
        GPT(dataclasses.replace(TINY, **options))
