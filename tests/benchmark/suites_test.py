"""Tests of the benchmark suites: their cases run, at the stated sizes."""

import dataclasses
import math
import pickle

import numpy as np
import pytest

from jaxlabs.benchmark import jax_cases, suites
from jaxlabs.benchmark import lab as benchmark
from jaxlabs.benchmark.suites import SUITES, Bench, LabUnderTest, matmul
from jaxlabs.benchmark.timing import OURS
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import DataModule
from jaxlabs.training.advance import Advance

pytestmark = pytest.mark.usefixtures("quickly_compiled")

# Settings that make every lab tiny; the others are those of the reference preset.
TINY = {
    "gpt": {"context_length": 8, "embed_dim": 16, "num_layers": 1, "num_heads": 2, "mlp_dim": 16},
    "ddpm": {"base_channels": 8, "time_embed_dim": 8, "num_groups": 2},
    "char_rnn": {"bptt_length": 4, "hidden_size": 8, "embed_dim": 8, "batch_size": 4},
    "speech_lm": {
        "context_length": 8,
        "embed_dim": 16,
        "num_layers": 1,
        "batch_size": 4,
        "vocab_size": 40,
    },
    "speech_classifier": {"context_length": 8, "embed_dim": 16, "num_layers": 1, "batch_size": 4},
    "sparse_autoencoder": {"patches": 50, "batch_size": 50, "steps": 3},
}
TINY["speech_classifier"] |= {"vocab_size": 40}
TINY["gpt"] |= {"batch_size": 2, "grad_accum_steps": 1}
TINY["ddpm"] |= {"batch_size": 2, "grad_accum_steps": 1}

ALIKE = ("gpt_sample", "char_rnn", "window_attention")
"""Suites whose groups differ only in a size."""

TRACED = ("ddpm_train", "char_rnn", "speech_lm", "speech_classifier", "start")
"""Suites that are traced but not run: slow to compile, and the same function as `gpt_train`; or
tested in command_start_test.py."""


def patches(config):
    values = np.random.default_rng(0).uniform(0.1, 0.9, (config.patches, 64)).astype(np.float32)
    return DataModule(Examples({"patches": values}), {}, dict, {}, False, {}, dict)


@pytest.fixture(scope="module")
def bench():
    labs = {}
    for lab in benchmark.LABS:
        settings = dict(lab.presets["reference"]) | TINY[lab.name]
        config = lab.config_class.from_flat(settings)
        labs[lab.name] = LabUnderTest(config, lab.build_task, patches)
    return Bench(labs=labs, torch_compile=False, max_length=1024)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Skips measurements of time: precision resolution and the peak rate."""
    monkeypatch.setattr(jax_cases, "resolve_precision", lambda config, stored: "default")
    monkeypatch.setattr(jax_cases, "MATMUL", (8, 4, 6))
    monkeypatch.setattr(suites, "SAMPLES", 2)
    monkeypatch.setattr(suites, "STEPS", 2)


def groups_of(bench, suite):
    make = matmul if suite == "matmul" else SUITES[suite]
    return make(bench)


@pytest.mark.parametrize("suite", ["matmul", *SUITES])
def test_our_cases_run_and_count_operations(bench, suite):
    for group in groups_of(bench, suite):
        assert len({case.name for case in group}) == len(group)
        ours = [case for case in group if case.framework == OURS]
        work = pickle.loads(pickle.dumps(ours[0].build))()  # as in a worker
        assert work.flops or suite == "start" or group[0].variant == "training"
        if suite not in TRACED:
            work.run()
            assert all(map(math.isfinite, work.extra_metrics().values()))
        if suite in ALIKE:
            break


def test_repeated_training_steps_run_in_one_call(bench, monkeypatch):
    steps = []

    class Counted(Advance):
        def __call__(self, state, until):
            steps.append(until - int(state.step))
            return super().__call__(state, until)

    monkeypatch.setattr(jax_cases, "Advance", Counted)
    (group,) = SUITES["gpt_train"](bench)
    timed = group[0].build()
    timed.run()
    timed.repeat(12)
    assert steps == [1, 12]


@pytest.mark.peers
@pytest.mark.parametrize("suite", ["matmul", *SUITES])
def test_peers_run_in_both_precisions(bench, suite):
    pytest.importorskip("torch")
    for group in groups_of(bench, suite):
        for case in group:
            if case.framework != OURS and not case.skipped:
                work = pickle.loads(pickle.dumps(case.build))()
                work.run()
                assert all(map(math.isfinite, work.extra_metrics().values()))
        if suite in ALIKE:
            break


def test_attention_flops_count_visible_scores():
    # 2 heads of 3: two matmuls of 2 * 3 operations per score, once forward and twice backward.
    assert jax_cases.attention_flops(2, 3, 5, None) == 3 * 2 * 2 * 2 * 3 * (1 + 2 + 3 + 4 + 5)
    assert jax_cases.attention_flops(2, 3, 5, 2) == 3 * 2 * 2 * 2 * 3 * (1 + 2 + 2 + 2 + 2)


def test_precisions_depend_on_the_platform(bench):
    for platform, expected in (
        ("cpu", ["highest", "bfloat16"]),
        ("gpu", ["highest", "default", "bfloat16"]),
    ):
        (group,) = SUITES["gpt_train"](dataclasses.replace(bench, platform=platform))
        assert [case.precision for case in group if case.framework == OURS] == expected


@pytest.mark.peers
def test_compiled_peers_are_skipped_with_a_reason(bench, monkeypatch):
    pytest.importorskip("torch")
    (group,) = SUITES["gpt_train"](bench)
    assert [case.skipped for case in group if case.mode == "compiled"][2:] == [
        "--torch_compile=false"
    ] * 2
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    (group,) = SUITES["gpt_train"](dataclasses.replace(bench, torch_compile=True))
    reasons = {case.skipped for case in group if case.framework == "pytorch"}
    assert reasons == {"", "torch.compile needs a C++ compiler; none found"}


def test_only_masked_window_attention_expects_quadratic_memory(bench):
    groups = SUITES["window_attention"](dataclasses.replace(bench, max_length=65536, small=False))
    assert len(groups) == 14
    assert all(group[0].expected_bytes == 0 for group in groups)
    pytest.importorskip("torch")
    wanted = {case.variant: case.expected_bytes for group in groups for case in group[1:]}
    assert wanted["full_causal, 65536 tokens"] == 0
    assert wanted["window, 65536 tokens"] == 4 * wanted["window, 32768 tokens"] == 2**35


def test_reduced_sizes_are_noted_in_rows(bench):
    reduced = dataclasses.replace(bench, small=True)
    sizes = {name: SUITES[name](reduced)[0][0].size for name in ("gpt_train", "gpt_sample")}
    assert sizes["gpt_train"].endswith("(reduced: batch_size 8, grad_accum_steps 2)")
    assert "64 new tokens (reduced from 8)" in sizes["gpt_sample"]
    assert "reduced" not in SUITES["gpt_train"](bench)[0][0].size
