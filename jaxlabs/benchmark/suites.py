"""Suites of the benchmark and their cases.

Sizes are those of the labs' `reference` presets, given by `experiments.benchmark`. A suite that
would take minutes with them is smaller in the `quick` preset; its rows state the reduced sizes.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from jaxlabs.benchmark import jax_cases
from jaxlabs.benchmark.cases import (
    Bench,
    bound,
    char_vocabulary,
    size_note,
    vocab_size,
    with_settings,
    word_vocabulary,
)
from jaxlabs.benchmark.timing import FLOAT64, OURS, Case
from jaxlabs.layers.rnn_cells import CELLS

SHAPE = (28, 28, 1)
SAMPLES, STEPS, FEW_STEPS = 64, 20, 4
"""Batch size of `ddpm_sample`, and its reverse steps per call (and when reduced)."""

WINDOW, WINDOW_HEADS, WINDOW_HEAD_DIM = 256, 4, 64
MIN_LENGTH = 1024

MASK_COPIES = 2
"""Approximate number of float32 arrays of the mask's size in PyTorch's attention."""


def matmul(bench: Bench) -> list[list[Case]]:
    """Peak rate of a large matmul, the reference of all other rates."""
    rows, inputs, outputs = jax_cases.MATMUL
    facts = {"suite": "matmul", "variant": "large", "unit": "product"}
    facts["size"] = f"{rows} x {inputs} times {inputs} x {outputs}"
    ours = functools.partial(jax_cases.matmul, bench.platform)
    theirs = bench.peer("matmul")
    group = bench.cases(ours, theirs, **facts)
    return [[case for case in group if case.framework == OURS or case.mode == "eager"]]


def gpt_train(bench: Bench) -> list[list[Case]]:
    """A training step of the character GPT."""
    size = {"batch_size": 8, "grad_accum_steps": 2} if bench.small else {}
    return _language_model(bench, "gpt_train", "gpt", char_vocabulary(), size)


def speech_lm(bench: Bench) -> list[list[Case]]:
    """A training step of the word-level decoder."""
    config = bench.labs["speech_lm"].config
    return _language_model(bench, "speech_lm", "speech_lm", word_vocabulary(config), {})


def _language_model(
    bench: Bench, suite: str, lab: str, data_spec: Mapping[str, Any], size: Mapping[str, Any]
) -> list[list[Case]]:
    subject = bench.labs[lab]
    config, model = with_settings(subject.config, bench, size), subject.config.model
    count = vocab_size(data_spec)
    dataset = functools.partial(jax_cases.random_text, count, model.context_length)
    ours = functools.partial(jax_cases.training, config, subject.build_task, data_spec, dataset)
    words = f"batch {config.batch_size} x {model.context_length}, vocabulary {count}"
    facts = {"suite": suite, "variant": "step", "unit": "step", "size": words + size_note(size)}
    return [bench.cases(ours, bound(bench.peer("gpt_training"), config, count), **facts)]


def gpt_sample(bench: Bench) -> list[list[Case]]:
    """Text sampling with the character GPT from a prompt of one token."""
    subject, data_spec = bench.labs["gpt"], char_vocabulary()
    config = with_settings(subject.config, bench, {})
    tokens, groups = 64 if bench.small else config.model.context_length, []
    for batch_size in (1, 16):
        arguments = (batch_size, tokens)
        ours = functools.partial(
            jax_cases.text_sampling, config, subject.build_task, data_spec, *arguments
        )
        peer = bound(bench.peer("text_sampling"), config, vocab_size(data_spec), *arguments)
        note = f" (reduced from {config.model.context_length})" if bench.small else ""
        facts = {"suite": "gpt_sample", "variant": f"batch {batch_size}", "unit": "token"}
        facts["size"] = f"{tokens} new tokens{note}, batch {batch_size}"
        groups.append(bench.cases(ours, peer, **facts))
    return groups


def ddpm_train(bench: Bench) -> list[list[Case]]:
    """A training step of the U-Net."""
    subject, size = bench.labs["ddpm"], {}
    if bench.small:
        size = {"batch_size": 32, "grad_accum_steps": 4}
    config = with_settings(subject.config, bench, size)
    dataset = functools.partial(jax_cases.random_images, SHAPE)
    data_spec = {"shape": SHAPE, "classes": []}
    ours = functools.partial(jax_cases.training, config, subject.build_task, data_spec, dataset)
    words = f"batch {config.batch_size} of 28 x 28" + size_note(size)
    facts = {"suite": "ddpm_train", "variant": "step", "unit": "step", "size": words}
    return [bench.cases(ours, bound(bench.peer("unet_training"), config, SHAPE), **facts)]


def ddpm_sample(bench: Bench) -> list[list[Case]]:
    """Reverse steps of ancestral sampling."""
    subject, batch_size = bench.labs["ddpm"], SAMPLES
    steps = FEW_STEPS if bench.small else STEPS
    config, data_spec = with_settings(subject.config, bench, {}), {"shape": SHAPE, "classes": []}
    ours = functools.partial(
        jax_cases.image_sampling, config, subject.build_task, data_spec, batch_size, steps
    )
    peer = bound(bench.peer("image_sampling"), config, SHAPE, batch_size, steps)
    facts = {"suite": "ddpm_sample", "variant": "reverse step", "unit": "reverse step"}
    facts["size"] = f"batch {batch_size} of 28 x 28, {steps} steps a call"
    return [bench.cases(ours, peer, **facts)]


def char_rnn(bench: Bench) -> list[list[Case]]:
    """A training step of the recurrent model with each cell."""
    subject, data_spec, groups = bench.labs["char_rnn"], char_vocabulary(), []
    count = vocab_size(data_spec)
    for cell in CELLS:
        config = with_settings(subject.config, bench, {"cell": cell})
        model = config.model
        dataset = functools.partial(jax_cases.random_streams, count, model.bptt_length)
        ours = functools.partial(jax_cases.training, config, subject.build_task, data_spec, dataset)
        sizes = f"{model.embed_dim} -> {model.hidden_size}"
        words = f"batch {config.batch_size} x {model.bptt_length}, {sizes}"
        facts = {"suite": "char_rnn", "variant": cell, "unit": "step", "size": words}
        peer = bound(bench.peer("char_rnn_training"), config, count)
        groups.append(bench.cases(ours, peer, **facts))
    return groups


def speech_classifier(bench: Bench) -> list[list[Case]]:
    """A training step of the sentence classifier."""
    subject = bench.labs["speech_classifier"]
    config = with_settings(subject.config, bench, {})
    data_spec, model = word_vocabulary(config), config.model
    count = vocab_size(data_spec)
    dataset = functools.partial(
        jax_cases.random_sentences, count, model.context_length, model.num_classes
    )
    ours = functools.partial(jax_cases.training, config, subject.build_task, data_spec, dataset)
    words = f"batch {config.batch_size} x {model.context_length}, vocabulary {count}"
    facts = {"suite": "speech_classifier", "variant": "step", "unit": "step", "size": words}
    peer = bound(bench.peer("classifier_training"), config, count, dataset)
    return [bench.cases(ours, peer, **facts)]


def sparse_autoencoder(bench: Bench) -> list[list[Case]]:
    """L-BFGS to convergence, and one evaluation of cost and gradient, beside numpy and scipy."""
    from jaxlabs.benchmark.peers import numpy_cases, scipy_solver

    subject, size = bench.labs["sparse_autoencoder"], {}
    if bench.small:
        size = {"steps": 100}
    config = with_settings(subject.config, bench, size)
    groups = []
    for kind, limit in (
        ("training", f"at most {config.steps} iterations"),
        ("gradient", "one evaluation"),
    ):
        ours, theirs = (
            getattr(module, f"full_batch_{kind}") for module in (jax_cases, numpy_cases)
        )
        facts = {"suite": "sparse_autoencoder", "variant": kind, "unit": "call"}
        facts["size"] = f"{config.patches} patches, {limit}" + size_note(size)
        functions = (subject.build_task, subject.load_data)
        build = functools.partial(ours, config, *functions, "highest")
        group = [Case(framework=OURS, precision="highest", build=build, **facts)]
        if kind == "training":
            build = functools.partial(scipy_solver.full_batch_training, config, *functions)
            fields = {"mode": "with scipy", "precision": FLOAT64, "build": build}
            group.append(Case(framework=OURS, **fields, **facts))
        for mode, threads in (("one thread", {"OPENBLAS_NUM_THREADS": "1"}), ("all threads", {})):
            build = functools.partial(theirs, config, subject.load_data)
            fields = {"mode": mode, "precision": FLOAT64, "build": build, "environment": threads}
            group.append(Case(framework="numpy", **fields, **facts))
        groups.append(group)
    return groups


def window_attention(bench: Bench) -> list[list[Case]]:
    """Sliding-window and full causal attention, forward + backward, by length.

    Ours is chunked; with a window it is banded from 4,096 tokens on. PyTorch's fused attention is
    used for full causal attention; it has no window, so the window is a mask.
    """
    groups, length = [], MIN_LENGTH
    stride = 4 if bench.small else 2
    while length <= bench.max_length:
        for kind, window in (("window", WINDOW), ("full_causal", None)):
            sizes = (WINDOW_HEADS, WINDOW_HEAD_DIM, length, window)
            ours = functools.partial(jax_cases.attention, bench.platform, *sizes)
            facts = {"suite": "window_attention", "variant": f"{kind}, {length} tokens"}
            facts["size"] = f"{WINDOW_HEADS} heads of {WINDOW_HEAD_DIM}, batch 1, {length} tokens"
            facts["size"] += f", window {window}" if window else ""
            peer = bound(bench.peer("attention"), *sizes)
            group = bench.cases(ours, peer, precisions=("highest",), unit="pass", **facts)
            groups.append(
                [
                    dataclasses.replace(case, expected_bytes=_expected_bytes(case, length, window))
                    for case in group
                ]
            )
        length *= stride
    return groups


def _expected_bytes(case: Case, length: int, window: int | None) -> float:
    """Returns the memory that is quadratic in the length: PyTorch's mask for a window."""
    return 0.0 if case.framework == OURS or window is None else 4.0 * MASK_COPIES * length**2


SUITES: dict[str, Callable[[Bench], list[list[Case]]]] = {
    "gpt_train": gpt_train,
    "gpt_sample": gpt_sample,
    "ddpm_train": ddpm_train,
    "ddpm_sample": ddpm_sample,
    "char_rnn": char_rnn,
    "speech_lm": speech_lm,
    "speech_classifier": speech_classifier,
    "sparse_autoencoder": sparse_autoencoder,
    "window_attention": window_attention,
}
