"""Suites of the benchmark and their cases.

Sizes are those of the labs' `reference` presets, given by `experiments.benchmark`. A suite that
would take minutes with them is smaller in the `quick` preset; its rows state the reduced sizes.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from jaxlabs.benchmark import jax_cases
from jaxlabs.benchmark.cases import Bench, char_tokenizer, size_note, word_tokenizer
from jaxlabs.benchmark.timing import FLOAT64, OURS, Case
from jaxlabs.data.tokenizers import CharTokenizer, WordTokenizer
from jaxlabs.layers.rnn_cells import CELLS
from jaxlabs.training.run_config import RunConfig

SHAPE = (28, 28, 1)
IMAGES = {"shape": SHAPE, "classes": []}
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
    group = bench.cases(ours, bench.peer("matmul"), **facts)
    return [[case for case in group if case.framework == OURS or case.mode == "eager"]]


def _training(
    bench: Bench,
    suite: str,
    lab: str,
    config: RunConfig,
    data_spec: Mapping[str, Any],
    dataset: Callable[[], Any],
    peer: Callable[..., Any] | None,
    *,
    size: str,
    variant: str = "step",
) -> list[Case]:
    """Returns the group of a training step, ours and PyTorch's."""
    build_task = bench.labs[lab].build_task
    ours = functools.partial(jax_cases.training, config, build_task, data_spec, dataset)
    return bench.cases(ours, peer, suite=suite, variant=variant, unit="step", size=size)


def gpt_train(bench: Bench) -> list[list[Case]]:
    """A training step of the character GPT."""
    reduced = {"batch_size": 8, "grad_accum_steps": 2} if bench.small else {}
    config = bench.config("gpt", reduced)
    return _language_model(bench, "gpt_train", "gpt", config, char_tokenizer(), size_note(reduced))


def speech_lm(bench: Bench) -> list[list[Case]]:
    """A training step of the word-level decoder."""
    config = bench.config("speech_lm")
    tokenizer = word_tokenizer(config.model.vocab_size)
    return _language_model(bench, "speech_lm", "speech_lm", config, tokenizer)


def _language_model(
    bench: Bench,
    suite: str,
    lab: str,
    config: RunConfig,
    tokenizer: CharTokenizer | WordTokenizer,
    note: str = "",
) -> list[list[Case]]:
    count, length = tokenizer.vocab.size, config.model.context_length
    dataset = functools.partial(jax_cases.random_text, count, length)
    peer = bench.peer("gpt_training", config, count)
    size = f"batch {config.batch_size} x {length}, vocabulary {count}{note}"
    return [_training(bench, suite, lab, config, tokenizer.to_json(), dataset, peer, size=size)]


def gpt_sample(bench: Bench) -> list[list[Case]]:
    """Text sampling with the character GPT from a prompt of one token."""
    config, tokenizer, groups = bench.config("gpt"), char_tokenizer(), []
    length = config.model.context_length
    tokens, note = (64, f" (reduced from {length})") if bench.small else (length, "")
    setup = config, bench.labs["gpt"].build_task, tokenizer.to_json()
    for batch_size in (1, 16):
        ours = functools.partial(jax_cases.text_sampling, *setup, batch_size, tokens)
        peer = bench.peer("text_sampling", config, tokenizer.vocab.size, batch_size, tokens)
        facts = {"suite": "gpt_sample", "variant": f"batch {batch_size}", "unit": "token"}
        facts["size"] = f"{tokens} new tokens{note}, batch {batch_size}"
        groups.append(bench.cases(ours, peer, **facts))
    return groups


def ddpm_train(bench: Bench) -> list[list[Case]]:
    """A training step of the U-Net."""
    reduced = {"batch_size": 32, "grad_accum_steps": 4} if bench.small else {}
    config = bench.config("ddpm", reduced)
    dataset = functools.partial(jax_cases.random_images, SHAPE)
    peer = bench.peer("unet_training", config, SHAPE)
    size = f"batch {config.batch_size} of 28 x 28{size_note(reduced)}"
    return [_training(bench, "ddpm_train", "ddpm", config, IMAGES, dataset, peer, size=size)]


def ddpm_sample(bench: Bench) -> list[list[Case]]:
    """Reverse steps of ancestral sampling."""
    config, build_task = bench.config("ddpm"), bench.labs["ddpm"].build_task
    sizes = SAMPLES, FEW_STEPS if bench.small else STEPS
    ours = functools.partial(jax_cases.image_sampling, config, build_task, IMAGES, *sizes)
    peer = bench.peer("image_sampling", config, SHAPE, *sizes)
    facts = {"suite": "ddpm_sample", "variant": "reverse step", "unit": "reverse step"}
    facts["size"] = "batch {} of 28 x 28, {} steps a call".format(*sizes)
    return [bench.cases(ours, peer, **facts)]


def char_rnn(bench: Bench) -> list[list[Case]]:
    """A training step of the recurrent model with each cell."""
    tokenizer, groups = char_tokenizer(), []
    count, data_spec = tokenizer.vocab.size, tokenizer.to_json()
    for cell in CELLS:
        config = bench.config("char_rnn", {"cell": cell})
        model = config.model
        dataset = functools.partial(jax_cases.random_streams, count, model.bptt_length)
        setup = "char_rnn", "char_rnn", config, data_spec, dataset
        peer = bench.peer("char_rnn_training", config, count)
        size = f"batch {config.batch_size} x {model.bptt_length}, "
        size += f"{model.embed_dim} -> {model.hidden_size}"
        groups.append(_training(bench, *setup, peer, size=size, variant=cell))
    return groups


def speech_classifier(bench: Bench) -> list[list[Case]]:
    """A training step of the sentence classifier."""
    config = bench.config("speech_classifier")
    model, count = config.model, config.model.vocab_size
    data_spec, sizes = word_tokenizer(count).to_json(), (model.context_length, model.num_classes)
    dataset = functools.partial(jax_cases.random_sentences, count, *sizes)
    setup = "speech_classifier", "speech_classifier", config, data_spec, dataset
    peer = bench.peer("classifier_training", config, count, dataset)
    size = f"batch {config.batch_size} x {model.context_length}, vocabulary {count}"
    return [_training(bench, *setup, peer, size=size)]


def sparse_autoencoder(bench: Bench) -> list[list[Case]]:
    """L-BFGS to convergence, and one evaluation of cost and gradient, beside numpy and scipy."""
    from jaxlabs.benchmark.peers import numpy_sparse_autoencoder, scipy_solver

    reduced = {"steps": 100} if bench.small else {}
    config, lab = bench.config("sparse_autoencoder", reduced), bench.labs["sparse_autoencoder"]
    functions, groups = (lab.build_task, lab.load_data), []
    for kind, limit in (
        ("training", f"at most {config.steps} iterations"),
        ("gradient", "one evaluation"),
    ):
        ours, theirs = (
            getattr(module, f"full_batch_{kind}") for module in (jax_cases, numpy_sparse_autoencoder)
        )
        facts = {"suite": "sparse_autoencoder", "variant": kind, "unit": "call"}
        facts["size"] = f"{config.patches} patches, {limit}{size_note(reduced)}"
        build = functools.partial(ours, config, *functions, "highest")
        group = [Case(framework=OURS, precision="highest", build=build, **facts)]
        if kind == "training":
            build = functools.partial(scipy_solver.full_batch_training, config, *functions)
            fields = {"mode": "with scipy", "precision": FLOAT64, "build": build}
            group.append(Case(framework=OURS, **fields, **facts))
        for mode, threads in (("one thread", {"OPENBLAS_NUM_THREADS": "1"}), ("all threads", {})):
            build = functools.partial(theirs, config, lab.load_data)
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
            peer = bench.peer("attention", *sizes)
            group = bench.cases(ours, peer, precisions=("highest",), unit="pass", **facts)
            if window:
                # The memory that is quadratic in the length: PyTorch's mask.
                mask = {"expected_bytes": 4.0 * MASK_COPIES * length**2}
                group = [
                    case if case.framework == OURS else dataclasses.replace(case, **mask)
                    for case in group
                ]
            groups.append(group)
        length *= stride
    return groups


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
