"""The collectives of a training step on a mesh, as compiled."""

import collections
import math
import re

import jax
import pytest

from jaxlabs import labs
from jaxlabs.layers import multi_head_attention
from jaxlabs.runner import cli, plan
from jaxlabs.training import devices

COLLECTIVES = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"

TEXT = "--dataset={} --context_length=8 --embed_dim=8 --num_heads=2 --mlp_dim=16 --num_layers=1"
SENTENCES = "--train_sentences=64 --test_sentences=8 --warmup_steps=0 --embed_dim=8"
DIGITS = "--dataset=rendered_digits --channels=2 --feature_dim=8 --warmup_steps=0"
CASES = {
    "gpt": f"gpt --preset=reference {TEXT}",
    "char_rnn": "char_rnn --dataset={} --embed_dim=8 --hidden_size=8 --bptt_length=8 --dropout=0.1",
    "translation": f"sequence_patterns --task=translation --backbone=gru {SENTENCES}",
    "tagging": f"sequence_patterns --task=tagging --backbone=lstm {SENTENCES}",
    "mnist_classifier": f"mnist_classifier {DIGITS}",
}


@pytest.fixture
def collectives(play):
    """`collectives(case, mesh) -> (Counter, parameters)`: elements of the results by operation."""

    def of(case, mesh, *flags):
        name, *settings = CASES[case].format(play).split()
        lab = labs.load(name)
        small = ["--steps=2", "--batch_size=8", "--grad_accum_steps=1", "--eval_batch_size=8"]
        config = cli.parse(lab, [*settings, *small, *flags]).config()
        data = lab.load_data(config)
        task = lab.build_task(config, data.data_spec)
        placement = devices.mesh_sharding(mesh, jax.devices()[:4])
        found = plan.plan(task, config, placement, data)
        program = found.steps.lower().compile(compiler_options=plan.QUICKLY).as_text()
        elements = collections.Counter()
        for shapes, operation in re.findall(rf" = (.*?) ({COLLECTIVES})(?:-start)?\(", program):
            sizes = re.findall(r"[a-z]+[0-9]*\[([0-9,]*)\]", shapes)
            elements[operation] += sum(
                math.prod(map(int, filter(None, s.split(",")))) for s in sizes
            )
        return elements, found.num_parameters

    return of


@pytest.mark.parametrize("case", CASES)
def test_a_split_batch_needs_one_all_reduce_of_the_gradients(case, collectives):
    found, parameters = collectives(case, "data:4")
    assert set(found) == {"all-reduce"}
    assert parameters <= found["all-reduce"] <= parameters + 200


def test_a_split_batch_with_a_projected_table_reduces_the_tables_gradient(collectives):
    found, parameters = collectives("char_rnn", "data:4", "--dropout=0", "--bptt_length=64")
    embed, gates = 8, 3 * 8
    vocabulary = (parameters - 2 * 8 * gates - gates - 8) // (embed + 8 + 1)
    replaced = vocabulary * embed + embed * gates + gates  # embedding, input kernel, bias
    assert set(found) == {"all-reduce"}
    assert 0 <= found["all-reduce"] - (parameters - replaced + vocabulary * gates) <= 200


def test_a_split_batch_in_micro_batches(collectives):
    found, parameters = collectives("gpt", "data:4", "--grad_accum_steps=2")
    assert set(found) == {"all-reduce"}
    assert parameters <= found["all-reduce"] <= parameters + 200


def test_split_heads_and_hidden_units_need_all_reduces_alone(collectives, monkeypatch):
    # The form of other platforms; that of CPUs joins the kernels whose heads are split.
    separate = multi_head_attention.separate_projections
    monkeypatch.setattr(multi_head_attention, "joined_projections", separate)
    found, _ = collectives("gpt", "data:2,tensor:2")
    assert set(found) == {"all-reduce"}


def test_split_parameters_are_gathered(collectives):
    assert collectives("char_rnn", "fsdp:4")[0]["all-gather"] > 0
