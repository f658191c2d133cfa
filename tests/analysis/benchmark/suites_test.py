"""Each suite's cases run, do work of the same size, and say what it is."""

import dataclasses
import math
import pickle

import numpy as np
import pytest

from experiments import benchmark
from jaxlabs.analysis.benchmark import jax_cases, suites
from jaxlabs.analysis.benchmark.cases import Bench, LabUnderTest
from jaxlabs.analysis.benchmark.suites import SUITES, matmul
from jaxlabs.analysis.benchmark.timing import OURS
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import Data

pytestmark = pytest.mark.usefixtures("quickly_compiled")

# What makes every lab an affair of moments; all that is not named stays the reference's.
TINY = {
    "gpt": {"context_length": 8, "embed_dim": 16, "num_layers": 1, "num_heads": 2, "mlp_dim": 16},
    "ddpm": {"embed_dim": 8, "time_embed_dim": 8, "groups": 2},
    "char_rnn": {"context_length": 4, "hidden": 8, "embedding": 8, "batch_size": 4},
    "speech_lm": {
        "context_length": 8,
        "embed_dim": 16,
        "num_layers": 1,
        "batch_size": 4,
        "vocabulary_size": 40,
    },
    "speech_classifier": {"context_length": 8, "embed_dim": 16, "num_layers": 1, "batch_size": 4},
    "sparse_autoencoder": {"patches": 50, "batch_size": 50, "steps": 3},
}
TINY["speech_classifier"] |= {"vocabulary_size": 40}
TINY["gpt"] |= {"batch_size": 2, "grad_accum_steps": 1}
TINY["ddpm"] |= {"batch_size": 2, "grad_accum_steps": 1}

ALIKE = ("gpt_sample", "char_rnn", "window_attention")
"""Suites whose groups differ in a number alone."""

TRACED = ("ddpm_train", "char_rnn", "speech_lm", "speech_classifier")
"""What is not run: compiling it takes long, and it is the same function as in `gpt_train`."""


def patches(config):
    drawn = np.random.default_rng(0).uniform(0.1, 0.9, (config.patches, 64)).astype(np.float32)
    return Data(Examples({"patches": drawn}), {}, dict, {}, False, {}, dict)


@pytest.fixture(scope="module")
def bench():
    labs = {}
    for lab in benchmark.LABS:
        settings = dict(lab.presets["reference"]) | TINY[lab.name]
        config = lab.config_class.from_flat(settings)
        labs[lab.name] = LabUnderTest(config, lab.build_task, patches)
    return Bench(labs=labs, compiled_peers=False, max_length=1024)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Nothing here measures a time: neither what a precision is worth, nor a rate."""
    monkeypatch.setattr(jax_cases, "settle", lambda config, stored: "default")
    monkeypatch.setattr(jax_cases, "MATMUL", (8, 4, 6))
    monkeypatch.setattr(suites, "PICTURES", 2)
    monkeypatch.setattr(suites, "STEPS", 2)


def groups_of(bench, suite):
    make = matmul if suite == "matmul" else SUITES[suite]
    return make(bench)


@pytest.mark.parametrize("suite", ["matmul", *SUITES])
def test_ours_runs_and_counts_its_operations(bench, suite):
    for group in groups_of(bench, suite):
        assert len({rival.name for rival in group}) == len(group)
        ours = [rival for rival in group if rival.framework == OURS]
        work = pickle.loads(pickle.dumps(ours[0].build))()  # as a worker gets it
        assert work.flops or group[0].variant == "training"
        if suite not in TRACED:
            work.run()
            assert all(map(math.isfinite, work.figures().values()))
        if suite in ALIKE:
            break


def test_steps_are_taken_in_calls_of_many_as_in_a_run(bench, monkeypatch):
    counts, build = [], jax_cases.build_multi_step

    def counting(*args):
        run_steps = build(*args)

        def counted(state, dataset, count, seed):
            counts.append(int(count))
            return run_steps(state, dataset, count, seed)

        return counted

    monkeypatch.setattr(jax_cases, "build_multi_step", counting)
    (group,) = SUITES["gpt_train"](bench)
    timed = group[0].build()
    timed.run()
    timed.repeat(12)
    assert counts[0] == 1
    assert max(counts) > 1
    assert sum(counts) == 13


@pytest.mark.peers
@pytest.mark.parametrize("suite", ["matmul", *SUITES])
def test_peers_run_in_both_precisions(bench, suite):
    pytest.importorskip("torch")
    for group in groups_of(bench, suite):
        for rival in group:
            if rival.framework != OURS and not rival.skipped:
                work = pickle.loads(pickle.dumps(rival.build))()
                work.run()
                assert all(map(math.isfinite, work.figures().values()))
        if suite in ALIKE:
            break


def test_the_operations_of_attention_are_those_of_the_scores_that_are_looked_at():
    # 2 heads of 3: two dots of 2 * 3 operations for a score, once forth and twice back.
    assert jax_cases.attention_flops(2, 3, 5, None) == 3 * 2 * 2 * 2 * 3 * (1 + 2 + 3 + 4 + 5)
    assert jax_cases.attention_flops(2, 3, 5, 2) == 3 * 2 * 2 * 2 * 3 * (1 + 2 + 2 + 2 + 2)


def test_ours_has_the_precisions_that_differ_on_the_platform(bench):
    for platform, expected in (
        ("cpu", ["highest", "bfloat16"]),
        ("gpu", ["highest", "default", "bfloat16"]),
    ):
        (group,) = SUITES["gpt_train"](dataclasses.replace(bench, platform=platform))
        assert [rival.precision for rival in group if rival.framework == OURS] == expected


@pytest.mark.peers
def test_compiled_peers_are_left_out_with_a_reason(bench, monkeypatch):
    pytest.importorskip("torch")
    (group,) = SUITES["gpt_train"](bench)
    assert [rival.skipped for rival in group if rival.mode == "compiled"][2:] == [
        "--compiled_peers=false"
    ] * 2
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    (group,) = SUITES["gpt_train"](dataclasses.replace(bench, compiled_peers=True))
    reasons = {rival.skipped for rival in group if rival.framework == "pytorch"}
    assert reasons == {"", "torch.compile needs a C++ compiler; there is none"}


def test_only_a_window_by_a_mask_says_that_it_wants_much_memory(bench):
    groups = SUITES["window_attention"](dataclasses.replace(bench, max_length=65536, small=False))
    assert len(groups) == 14
    assert all(group[0].expected_bytes == 0 for group in groups)
    pytest.importorskip("torch")
    wanted = {rival.variant: rival.expected_bytes for group in groups for rival in group[1:]}
    assert wanted["dense, 65536 tokens"] == 0
    assert wanted["window, 65536 tokens"] == 4 * wanted["window, 32768 tokens"] == 2**35


def test_reduced_sizes_are_said_in_the_rows(bench):
    reduced = dataclasses.replace(bench, small=True)
    sizes = {name: SUITES[name](reduced)[0][0].size for name in ("gpt_train", "gpt_sample")}
    assert sizes["gpt_train"].endswith("(reduced: batch_size 8, grad_accum_steps 2)")
    assert "64 tokens (reduced from 8)" in sizes["gpt_sample"]
    assert "reduced" not in SUITES["gpt_train"](bench)[0][0].size
