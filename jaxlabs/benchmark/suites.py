"""Suites of the benchmark: groups of cases, our precisions beside the modes of PyTorch.

Sizes are those of the labs' `reference` presets, given by `experiments.benchmark`. A suite that
would take minutes with them is smaller in the `quick` preset; its rows state the reduced sizes.
"""

import dataclasses
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from jaxlabs.benchmark import command_start, jax_cases
from jaxlabs.benchmark.timing import BFLOAT16, FLOAT32, FLOAT64, OURS, Case, why_no_compiler
from jaxlabs.data.dataset import DataModule
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

Group = list[Case]


@dataclasses.dataclass(frozen=True)
class LabUnderTest:
    """A lab in the benchmark."""

    config: RunConfig  #: settings of its `reference` preset
    build_task: jax_cases.BuildTask  #: as in `jaxlabs.runner.lab.Lab`
    load_data: Callable[[Any], DataModule]  #: as in `jaxlabs.runner.lab.Lab`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """Settings of all suites."""

    labs: Mapping[str, LabUnderTest]  #: labs by name
    platform: str = "cpu"  #: JAX platform of our cases; peers run on the CPU only
    small: bool = False  #: whether suites that take minutes use smaller sizes
    torch_compile: bool = True  #: whether to measure PyTorch with torch.compile
    max_length: int = 65536  #: largest sequence length of `window_attention`

    @property
    def has_pytorch(self) -> bool:
        """Whether PyTorch is available as a peer."""
        return self.platform == "cpu" and importlib.util.find_spec("torch") is not None

    def cases(
        self,
        ours: Callable[..., Any],
        peer: tuple[Any, ...],
        *,
        precisions: Sequence[str] = ("highest", "bfloat16"),
        **facts: Any,
    ) -> Group:
        """Returns a group: our code in each precision, PyTorch in each mode.

        On a CPU `default` equals `highest`; on other platforms it is measured as well.

        Args:
          ours: builds our workload; takes `precision`.
          peer: name of a function of `peers.torch_cases`, which takes `mode`, and its arguments.
          precisions: precisions of our cases.
          facts: further fields of all cases.
        """
        if self.platform != "cpu":
            precisions = ("highest", "default", *precisions[1:])
        group = [
            Case(framework=OURS, precision=name, build=partial(ours, precision=name), **facts)
            for name in precisions
        ]
        if not self.has_pytorch:
            return group
        from jaxlabs.benchmark.peers import torch_cases

        name, *arguments = peer
        theirs = partial(getattr(torch_cases, name), *arguments)
        reason = why_no_compiler() if self.torch_compile else "--torch_compile=false"
        for compiled in (False, True):
            for dtype in (FLOAT32, BFLOAT16)[: len(precisions)]:
                mode = torch_cases.Mode(compiled, dtype == BFLOAT16)
                fields = {"mode": "compiled" if compiled else "eager", "precision": dtype}
                fields |= {"build": partial(theirs, mode=mode), "skipped": reason * compiled}
                group.append(Case(framework="pytorch", **fields, **facts))
        return group

    def config(self, lab: str, settings: Mapping[str, Any] | None = None) -> RunConfig:
        """Returns a lab's settings on the bench's platform, with some replaced."""
        config = self.labs[lab].config
        changed = {"platform": self.platform} | dict(settings or {})
        return type(config).from_flat(config.flat() | changed)


def size_note(size: Mapping[str, Any]) -> str:
    """Returns a note with the reduced sizes."""
    sizes = ", ".join(f"{name} {value}" for name, value in size.items())
    return f" (reduced: {sizes})" if size else ""


def char_tokenizer() -> CharTokenizer:
    """Returns a tokenizer of 65 characters, as many as tiny Shakespeare has."""
    return CharTokenizer("".join(["\n", *map(chr, range(32, 96))]))


def word_tokenizer(count: int) -> WordTokenizer:
    """Returns a tokenizer of `count` words, special ones included."""
    return WordTokenizer(tuple(sorted([".", *(f"word{number}" for number in range(count - 3))])))


def matmul(bench: Bench) -> list[Group]:
    """Peak rate of a large matmul, the reference of all other rates."""
    rows, inputs, outputs = jax_cases.MATMUL
    facts = {"suite": "matmul", "variant": "large", "unit": "product"}
    facts["size"] = f"{rows} x {inputs} times {inputs} x {outputs}"
    group = bench.cases(partial(jax_cases.matmul, bench.platform), ("matmul",), **facts)
    return [[case for case in group if case.framework == OURS or case.mode == "eager"]]


def _training(
    bench: Bench,
    lab: str,
    config: RunConfig,
    data_spec: Mapping[str, Any],
    dataset: Callable[[], Any],
    peer: tuple[Any, ...],
    **facts: Any,
) -> Group:
    """Returns the group of a training step, ours and PyTorch's."""
    setup = jax_cases.Setup(config, bench.labs[lab].build_task, data_spec)
    facts = {"suite": lab, "variant": "step", "unit": "step"} | facts
    return bench.cases(partial(jax_cases.training, setup, dataset), peer, **facts)


def gpt_train(bench: Bench) -> list[Group]:
    """A training step of the character GPT."""
    reduced = {"batch_size": 8, "grad_accum_steps": 2} if bench.small else {}
    config, note = bench.config("gpt", reduced), size_note(reduced)
    return _language_model(bench, "gpt", config, char_tokenizer(), note, suite="gpt_train")


def speech_lm(bench: Bench) -> list[Group]:
    """A training step of the word-level decoder."""
    config = bench.config("speech_lm")
    return _language_model(bench, "speech_lm", config, word_tokenizer(config.model.vocab_size))


def _language_model(
    bench: Bench,
    lab: str,
    config: RunConfig,
    tokenizer: CharTokenizer | WordTokenizer,
    note: str = "",
    **facts: str,
) -> list[Group]:
    count, length = tokenizer.vocab.size, config.model.context_length
    facts["size"] = f"batch {config.batch_size} x {length}, vocabulary {count}{note}"
    dataset, peer = partial(jax_cases.random_text, count, length), ("gpt_training", config, count)
    return [_training(bench, lab, config, tokenizer.to_json(), dataset, peer, **facts)]


def gpt_sample(bench: Bench) -> list[Group]:
    """Text sampling with the character GPT from a prompt of one token."""
    config, tokenizer, groups = bench.config("gpt"), char_tokenizer(), []
    length = config.model.context_length
    tokens, note = (64, f" (reduced from {length})") if bench.small else (length, "")
    setup = jax_cases.Setup(config, bench.labs["gpt"].build_task, tokenizer.to_json())
    for batch_size in (1, 16):
        ours = partial(jax_cases.text_sampling, setup, batch_size, tokens)
        peer = "text_sampling", config, tokenizer.vocab.size, batch_size, tokens
        facts = {"suite": "gpt_sample", "variant": f"batch {batch_size}", "unit": "token"}
        facts["size"] = f"{tokens} new tokens{note}, batch {batch_size}"
        groups.append(bench.cases(ours, peer, **facts))
    return groups


def ddpm_train(bench: Bench) -> list[Group]:
    """A training step of the U-Net."""
    reduced = {"batch_size": 32, "grad_accum_steps": 4} if bench.small else {}
    config, dataset = bench.config("ddpm", reduced), partial(jax_cases.random_images, SHAPE)
    size = f"batch {config.batch_size} of 28 x 28{size_note(reduced)}"
    peer = "unet_training", config, SHAPE
    group = _training(bench, "ddpm", config, IMAGES, dataset, peer, suite="ddpm_train", size=size)
    return [group]


def ddpm_sample(bench: Bench) -> list[Group]:
    """Reverse steps of ancestral sampling."""
    config = bench.config("ddpm")
    setup = jax_cases.Setup(config, bench.labs["ddpm"].build_task, IMAGES)
    sizes = SAMPLES, FEW_STEPS if bench.small else STEPS
    ours = partial(jax_cases.image_sampling, setup, *sizes)
    facts = {"suite": "ddpm_sample", "variant": "reverse step", "unit": "reverse step"}
    facts["size"] = "batch {} of 28 x 28, {} steps a call".format(*sizes)
    return [bench.cases(ours, ("image_sampling", config, SHAPE, *sizes), **facts)]


def char_rnn(bench: Bench) -> list[Group]:
    """A training step of the recurrent model with each cell."""
    tokenizer, groups = char_tokenizer(), []
    count, data_spec = tokenizer.vocab.size, tokenizer.to_json()
    for cell in CELLS:
        config = bench.config("char_rnn", {"cell": cell})
        model, peer = config.model, ("char_rnn_training", config, count)
        dataset = partial(jax_cases.random_streams, count, model.bptt_length)
        size = f"batch {config.batch_size} x {model.bptt_length}, "
        facts = {"size": f"{size}{model.embed_dim} -> {model.hidden_size}", "variant": cell}
        groups.append(_training(bench, "char_rnn", config, data_spec, dataset, peer, **facts))
    return groups


def speech_classifier(bench: Bench) -> list[Group]:
    """A training step of the sentence classifier."""
    lab, config = "speech_classifier", bench.config("speech_classifier")
    model, count = config.model, config.model.vocab_size
    dataset = partial(jax_cases.random_sentences, count, model.context_length, model.num_classes)
    data_spec = word_tokenizer(count).to_json()
    peer = "classifier_training", config, count, dataset
    size = f"batch {config.batch_size} x {model.context_length}, vocabulary {count}"
    return [_training(bench, lab, config, data_spec, dataset, peer, size=size)]


def sparse_autoencoder(bench: Bench) -> list[Group]:
    """L-BFGS to convergence, and one evaluation of cost and gradient, beside numpy and scipy."""
    from jaxlabs.benchmark.peers import numpy_sparse_autoencoder, scipy_solver

    reduced = {"steps": 100} if bench.small else {}
    config, lab = bench.config("sparse_autoencoder", reduced), bench.labs["sparse_autoencoder"]
    setup, groups = jax_cases.Setup(config, lab.build_task, {}), []
    limits = {"training": f"at most {config.steps} iterations", "gradient": "one evaluation"}
    for kind, limit in limits.items():
        modules = jax_cases, numpy_sparse_autoencoder
        ours, theirs = (getattr(module, f"full_batch_{kind}") for module in modules)
        facts = {"suite": "sparse_autoencoder", "variant": kind, "unit": "call"}
        facts["size"] = f"{config.patches} patches, {limit}{size_note(reduced)}"
        build = partial(ours, setup, lab.load_data, "highest")
        group = [Case(framework=OURS, precision="highest", build=build, **facts)]
        facts["precision"] = FLOAT64
        if kind == "training":
            build = partial(scipy_solver.full_batch_training, setup, lab.load_data)
            group.append(Case(framework=OURS, mode="with scipy", build=build, **facts))
        for mode, threads in (("one thread", {"OPENBLAS_NUM_THREADS": "1"}), ("all threads", {})):
            fields = {"build": partial(theirs, config, lab.load_data), "environment": threads}
            group.append(Case(framework="numpy", mode=mode, **fields, **facts))
        groups.append(group)
    return groups


def window_attention(bench: Bench) -> list[Group]:
    """Sliding-window and full causal attention, forward + backward, by length.

    Ours is chunked; it is flash attention from 2,048 tokens on, with the window from 4,096.
    PyTorch's fused attention is used for full causal attention; it has no window, so the window is
    a mask.
    """
    groups, length = [], MIN_LENGTH
    while length <= bench.max_length:
        for kind, window in (("window", WINDOW), ("full_causal", None)):
            sizes = (WINDOW_HEADS, WINDOW_HEAD_DIM, length, window)
            ours = partial(jax_cases.attention, bench.platform, *sizes)
            facts = {"suite": "window_attention", "variant": f"{kind}, {length} tokens"}
            facts["size"] = f"{WINDOW_HEADS} heads of {WINDOW_HEAD_DIM}, batch 1, {length} tokens"
            facts["size"] += f", window {window}" if window else ""
            facts |= {"precisions": ("highest",), "unit": "pass"}
            group = bench.cases(ours, ("attention", *sizes), **facts)
            if window:
                # The memory that is quadratic in the length: PyTorch's mask.
                mask = {"expected_bytes": 4.0 * MASK_COPIES * length**2}
                group = [
                    case if case.framework == OURS else dataclasses.replace(case, **mask)
                    for case in group
                ]
            groups.append(group)
        length *= 4 if bench.small else 2
    return groups


def start(bench: Bench) -> list[Group]:
    """The command of the GPT, from its process to its first step: second start, and without cache.

    The first start with a cache takes the second one's time and its compile time.
    """
    facts = {"suite": "start", "variant": "GPT", "unit": "start", "size": "quick preset"}
    arguments = "gpt", "quick", bench.platform, bench.labs["gpt"].config.data_dir
    return [
        [
            Case(
                framework=OURS,
                precision="highest",
                mode="cached" if cached else "uncached",
                build=partial(command_start.start, *arguments, cached),
                **facts,
            )
            for cached in (True, False)
        ]
    ]


SUITES: dict[str, Callable[[Bench], list[Group]]] = {
    suite.__name__: suite
    for suite in (
        gpt_train,
        gpt_sample,
        ddpm_train,
        ddpm_sample,
        char_rnn,
        speech_lm,
        speech_classifier,
        sparse_autoencoder,
        window_attention,
        start,
    )
}
