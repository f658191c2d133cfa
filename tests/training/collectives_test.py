"""What the devices of a mesh exchange in a training step: sums, and no activations."""

import collections
import re

import jax
import pytest

from jaxlabs import labs
from jaxlabs.layers.multi_head_attention import MultiHeadAttention
from jaxlabs.runner import cli, plan
from jaxlabs.training import devices

COLLECTIVES = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"

TEXT = "--dataset={} --context_length=8 --embed_dim=8 --num_heads=2 --mlp_dim=16 --num_layers=1"
SENTENCES = "--train_sentences=64 --test_sentences=8 --warmup_steps=0 --embed_dim=8"
DIGITS = "--dataset=rendered_digits --channels=2 --feature_dim=8 --warmup_steps=0"
CASES = {
    "gpt": f"gpt --preset=reference {TEXT}",
    "char_rnn": "char_rnn --dataset={} --embed_dim=8 --hidden_size=8 --bptt_length=8",
    "translation": f"sequence_patterns --task=translation --backbone=gru {SENTENCES}",
    "tagging": f"sequence_patterns --task=tagging --backbone=lstm {SENTENCES}",
    "mnist_classifier": f"mnist_classifier {DIGITS}",
}


@pytest.fixture
def exchanged(play):
    """`exchanged(case, mesh) -> Counter` of the collective operations of a training step."""

    def of(case, mesh):
        name, *flags = CASES[case].format(play).split()
        lab = labs.load(name)
        small = ["--steps=2", "--batch_size=8", "--grad_accum_steps=1", "--eval_batch_size=8"]
        config = cli.parse(lab, [*flags, *small]).config()
        data = lab.load_data(config)
        task = lab.build_task(config, data.data_spec)
        placement = devices.mesh_sharding(mesh, jax.devices()[:4])
        steps = plan.plan(task, config, placement, data).steps
        program = steps.lower().compile(compiler_options=plan.QUICKLY).as_text()
        return collections.Counter(re.findall(rf" ({COLLECTIVES})(?:-start)?\(", program))

    return of


@pytest.mark.parametrize("case", CASES)
def test_devices_that_split_the_batch_exchange_sums_alone(case, exchanged):
    assert set(exchanged(case, "data:4")) == {"all-reduce"}


def test_devices_that_split_a_block_exchange_sums_alone(exchanged, monkeypatch):
    # The form of other platforms; that of CPUs joins the kernels whose heads are split.
    monkeypatch.setattr(MultiHeadAttention, "_joined", MultiHeadAttention._separate)
    found = exchanged("gpt", "data:2,tensor:2")
    assert set(found) == {"all-reduce"}
    assert found["all-reduce"] < 10


def test_split_parameters_are_gathered(exchanged):
    assert exchanged("char_rnn", "fsdp:4")["all-gather"] > 0
