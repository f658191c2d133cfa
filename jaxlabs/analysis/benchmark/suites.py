"""What the benchmark measures: the suites, with the cases of each.

The sizes are those of the labs' `reference` presets, which `experiments.benchmark` hands over. A
suite that would take minutes with them has smaller ones for the `quick` preset, and its rows say
which.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from jaxlabs.analysis.benchmark import jax_cases
from jaxlabs.analysis.benchmark.cases import (
    Bench,
    bound,
    changed,
    characters,
    reduction,
    size_of,
    word_list,
)
from jaxlabs.analysis.benchmark.timing import FLOAT64, OURS, Case
from jaxlabs.layers.rnn_cells import CELLS

SHAPE = (28, 28, 1)
PICTURES, STEPS, FEW_STEPS = 64, 20, 4
"""What one call of `ddpm_sample` draws, and in how many reverse steps (when reduced)."""

WINDOW, WINDOW_HEADS, WINDOW_HEAD_DIM = 256, 4, 64
MIN_LENGTH = 1024

MASKS_KEPT = 2
"""Arrays of a mask's size, in float32, that PyTorch's attention makes of it, about."""


def matmul(bench: Bench) -> list[list[Case]]:
    """The rate of a large dot, which is what all other rates are to be measured by."""
    rows, inputs, outputs = jax_cases.MATMUL
    facts = {"suite": "matmul", "variant": "large dot", "unit": "product"}
    facts["size"] = f"{rows} x {inputs} times {inputs} x {outputs}"
    ours = functools.partial(jax_cases.matmul, bench.platform)
    theirs = bench.peer("matmul")
    group = bench.cases(ours, theirs, **facts)
    return [[rival for rival in group if rival.framework == OURS or rival.mode == "eager"]]


def gpt_train(bench: Bench) -> list[list[Case]]:
    """A training step of the character GPT."""
    size = {"batch_size": 8, "grad_accum_steps": 2} if bench.small else {}
    return _language_model(bench, "gpt_train", "gpt", characters(), size)


def speech_lm(bench: Bench) -> list[list[Case]]:
    """A training step of the word-level decoder."""
    config = bench.labs["speech_lm"].config
    return _language_model(bench, "speech_lm", "speech_lm", word_list(config), {})


def _language_model(
    bench: Bench, suite: str, lab: str, vocabulary: Mapping[str, Any], size: Mapping[str, Any]
) -> list[list[Case]]:
    subject = bench.labs[lab]
    config, model = changed(subject.config, bench, size), subject.config.model
    count = size_of(vocabulary)
    dataset = functools.partial(jax_cases.random_text, count, model.context_length)
    ours = functools.partial(jax_cases.training, config, subject.build_task, vocabulary, dataset)
    words = f"batch {config.batch_size} x {model.context_length}, vocabulary {count}"
    facts = {"suite": suite, "variant": "step", "unit": "step", "size": words + reduction(size)}
    return [bench.cases(ours, bound(bench.peer("gpt_training"), config, count), **facts)]


def gpt_sample(bench: Bench) -> list[list[Case]]:
    """Texts that the character GPT writes after one token."""
    subject, vocabulary = bench.labs["gpt"], characters()
    config = changed(subject.config, bench, {})
    tokens, groups = 64 if bench.small else config.model.context_length, []
    for batch_size in (1, 16):
        arguments = (batch_size, tokens)
        ours = functools.partial(
            jax_cases.text_sampling, config, subject.build_task, vocabulary, *arguments
        )
        peer = bound(bench.peer("text_sampling"), config, size_of(vocabulary), *arguments)
        note = f" (reduced from {config.model.context_length})" if bench.small else ""
        facts = {"suite": "gpt_sample", "variant": f"batch {batch_size}", "unit": "token"}
        facts["size"] = f"{tokens} tokens{note} after one, for {batch_size} text(s) at once"
        groups.append(bench.cases(ours, peer, **facts))
    return groups


def ddpm_train(bench: Bench) -> list[list[Case]]:
    """A training step of the U-Net."""
    subject, size = bench.labs["ddpm"], {}
    if bench.small:
        size = {"batch_size": 32, "grad_accum_steps": 4}
    config = changed(subject.config, bench, size)
    dataset = functools.partial(jax_cases.random_pictures, SHAPE)
    vocabulary = {"shape": SHAPE, "classes": []}
    ours = functools.partial(jax_cases.training, config, subject.build_task, vocabulary, dataset)
    words = f"batch {config.batch_size} of 28 x 28" + reduction(size)
    facts = {"suite": "ddpm_train", "variant": "step", "unit": "step", "size": words}
    return [bench.cases(ours, bound(bench.peer("unet_training"), config, SHAPE), **facts)]


def ddpm_sample(bench: Bench) -> list[list[Case]]:
    """Reverse steps of ancestral sampling."""
    subject, batch_size = bench.labs["ddpm"], PICTURES
    steps = FEW_STEPS if bench.small else STEPS
    config, vocabulary = changed(subject.config, bench, {}), {"shape": SHAPE, "classes": []}
    ours = functools.partial(
        jax_cases.picture_sampling, config, subject.build_task, vocabulary, batch_size, steps
    )
    peer = bound(bench.peer("picture_sampling"), config, SHAPE, batch_size, steps)
    facts = {"suite": "ddpm_sample", "variant": "reverse step", "unit": "reverse step"}
    facts["size"] = f"batch {batch_size} of 28 x 28, {steps} steps a call"
    return [bench.cases(ours, peer, **facts)]


def char_rnn(bench: Bench) -> list[list[Case]]:
    """A training step of the recurrent model, with each of the cells."""
    subject, vocabulary, groups = bench.labs["char_rnn"], characters(), []
    count = size_of(vocabulary)
    for cell in CELLS:
        config = changed(subject.config, bench, {"cell": cell})
        model = config.model
        dataset = functools.partial(jax_cases.random_streams, count, model.bptt_length)
        ours = functools.partial(jax_cases.training, config, subject.build_task, vocabulary, dataset)
        sizes = f"{model.embed_dim} -> {model.hidden_size}"
        words = f"batch {config.batch_size} x {model.bptt_length}, {sizes}"
        facts = {"suite": "char_rnn", "variant": cell, "unit": "step", "size": words}
        peer = bound(bench.peer("char_rnn_training"), config, count)
        groups.append(bench.cases(ours, peer, **facts))
    return groups


def speech_classifier(bench: Bench) -> list[list[Case]]:
    """A training step of the classifier of sentences."""
    subject = bench.labs["speech_classifier"]
    config = changed(subject.config, bench, {})
    vocabulary, model = word_list(config), config.model
    count = size_of(vocabulary)
    dataset = functools.partial(jax_cases.random_sentences, count, model.context_length, model.classes)
    ours = functools.partial(jax_cases.training, config, subject.build_task, vocabulary, dataset)
    words = f"batch {config.batch_size} x {model.context_length}, vocabulary {count}"
    facts = {"suite": "speech_classifier", "variant": "step", "unit": "step", "size": words}
    peer = bound(bench.peer("classifier_training"), config, count, dataset)
    return [bench.cases(ours, peer, **facts)]


def sparse_autoencoder(bench: Bench) -> list[list[Case]]:
    """L-BFGS to convergence, and one cost with its gradient, beside numpy and scipy."""
    from jaxlabs.peers import numpy_work

    subject, size = bench.labs["sparse_autoencoder"], {}
    if bench.small:
        size = {"steps": 100}
    config = changed(subject.config, bench, size)
    with_scipy = changed(config, bench, {"optimizer": "scipy"})
    groups = []
    for kind, limit in (("training", f"at most {config.steps} iterations"), ("gradient", "one")):
        ours, theirs = (getattr(room, f"whole_set_{kind}") for room in (jax_cases, numpy_work))
        facts = {"suite": "sparse_autoencoder", "variant": kind, "unit": "call"}
        facts["size"] = f"{config.patches} patches, {limit}" + reduction(size)
        given = (subject.build_task, subject.load_data)
        build = functools.partial(ours, config, *given, "highest")
        group = [Case(framework=OURS, precision="highest", build=build, **facts)]
        if kind == "training":
            build = functools.partial(ours, with_scipy, *given, "highest")
            way = {"mode": "with scipy", "precision": FLOAT64, "build": build}
            group.append(Case(framework=OURS, **way, **facts))
        for mode, threads in (("one thread", {"OPENBLAS_NUM_THREADS": "1"}), ("all threads", {})):
            build = functools.partial(theirs, config, subject.load_data)
            way = {"mode": mode, "precision": FLOAT64, "build": build, "environment": threads}
            group.append(Case(framework="numpy", **way, **facts))
        groups.append(group)
    return groups


def window_attention(bench: Bench) -> list[list[Case]]:
    """Attention through a window and to all before ("dense"), forth and back, at doubling lengths.

    Ours takes the form that `AttentionMask` takes: slices, and for a window the band from 4,096 on.
    PyTorch's window is a mask, since its fused attention knows none; to all before it is fused.
    """
    groups, length = [], MIN_LENGTH
    stride = 4 if bench.small else 2
    while length <= bench.max_length:
        for kind, window in (("window", WINDOW), ("dense", None)):
            sizes = (WINDOW_HEADS, WINDOW_HEAD_DIM, length, window)
            ours = functools.partial(jax_cases.attention, bench.platform, *sizes)
            facts = {"suite": "window_attention", "variant": f"{kind}, {length} tokens"}
            facts["size"] = f"{WINDOW_HEADS} heads of {WINDOW_HEAD_DIM}, batch 1, {length} tokens"
            facts["size"] += f", window {window}" if window else ", all before"
            peer = bound(bench.peer("attention"), *sizes)
            group = bench.cases(ours, peer, precisions=("highest",), unit="pass", **facts)
            groups.append(
                [
                    dataclasses.replace(
                        rival, expected_bytes=_expected_bytes(rival, length, window)
                    )
                    for rival in group
                ]
            )
        length *= stride
    return groups


def _expected_bytes(rival: Case, length: int, window: int | None) -> float:
    """Returns what grows with the square of the length: PyTorch's mask of a window, and no more."""
    return 0.0 if rival.framework == OURS or window is None else 4.0 * MASKS_KEPT * length**2


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
