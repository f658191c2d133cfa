"""A character GPT: a decoder-only Transformer that learns to write, one character at a time.

Source    write-up of the character GPT lab; nanoGPT's train_shakespeare_char
Command   python -m experiments.gpt --platform=cpu
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import command
from jaxlabs.analysis.attention_maps import attention_maps, checks
from jaxlabs.analysis.baselines import ngram_baselines
from jaxlabs.analysis.sample_quality import sample_quality
from jaxlabs.config import RUNTIME, setting
from jaxlabs.data import datasets
from jaxlabs.data.language import language_data
from jaxlabs.data.splits import Data
from jaxlabs.data.tokenizers import CharTokenizer
from jaxlabs.lab import Lab
from jaxlabs.layers.positions import sinusoidal
from jaxlabs.models.transformer_lm import (
    TransformerLM,
    TransformerLMConfig,
    loss,
    sample,
    train_step,
)
from jaxlabs.run_folder import RunFolder
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState, Tree
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPTConfig(RunConfig):
    """A run's settings, the model's, and those of sampling."""

    dataset: str = setting(
        "tiny_shakespeare", f"one of {', '.join(datasets.NAMES)}, or the path of a UTF-8 text"
    )
    model: TransformerLMConfig = dataclasses.field(default_factory=TransformerLMConfig)
    demo_unmasked: bool = setting(
        False, "train without the causal mask, to see why it is there: the loss collapses"
    )
    prompt: str = setting("ROMEO:", "what samples go on from", kind=RUNTIME)
    num_samples: int = setting(3, "samples to draw", minimum=1, kind=RUNTIME)
    max_new_tokens: int = setting(500, "characters per sample", minimum=1, kind=RUNTIME)
    temperature: float = setting(0.8, "0 is greedy, 1 the model's own", minimum=0, kind=RUNTIME)
    top_k: int = setting(0, "draw from the k likeliest only; 0: all", minimum=0, kind=RUNTIME)
    top_p: float = setting(1.0, "draw from this much of the mass", above=0, maximum=1, kind=RUNTIME)


PRESETS = {
    "quick": {
        "steps": 300,
        "batch_size": 16,
        "context": 64,
        "width": 64,
        "heads": 4,
        "ffn_width": 256,
        "layers": 2,
    },
    "reference": {"steps": 2000, "batch_size": 64, "micro_batches": 16},
}


def load_data(config: GPTConfig) -> Data:
    """Reads the text and cuts it into windows of the model's context."""
    dataset = datasets.load(config.dataset, config.data_dir)
    return language_data(dataset, config.model.context, config.seed, ngram_baselines)


def build_task(config: GPTConfig, vocabulary: Mapping[str, Any]) -> Task:
    """Makes the model for a text's characters."""
    size = CharTokenizer.from_json(vocabulary).vocabulary_size
    model = TransformerLM(
        dataclasses.replace(config.model, vocabulary_size=size, causal=not config.demo_unmasked)
    )
    tokens = jnp.zeros((1, config.model.context), jnp.int32)
    return Task(model, functools.partial(model.init, tokens=tokens), loss, train_step)


def draw_samples(
    config: GPTConfig, task: Task, vocabulary: Mapping[str, Any], params: Tree, key: jax.Array
) -> str:
    """Returns samples that go on from the prompt, with a rule between them."""
    tokenizer = CharTokenizer.from_json(vocabulary)
    prompt = tokenizer.encode(config.prompt)
    prompts = jnp.asarray(np.tile(prompt, (config.num_samples, 1)))
    lengths = jnp.full((config.num_samples,), len(prompt), jnp.int32)
    tokens, _ = sample(
        task.model,
        params,
        prompts,
        lengths,
        key,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
    )
    return "\n----------\n".join(tokenizer.decode(row) for row in np.asarray(tokens))


def analyse(
    config: GPTConfig, task: Task, data: Data, state: TrainState, folder: RunFolder
) -> dict[str, float]:
    """Measures samples and held-out text alike, and writes attention maps and position table."""
    tokenizer = CharTokenizer.from_json(data.vocabulary)
    held_out = data.evaluations["held_out"].arrays["inputs"]
    shown = held_out[:1, :48]
    maps = attention_maps(task.model, state.evaluation_params, jnp.asarray(shown))
    np.savez(folder.arrays("attention_maps"), maps=maps, labels=list(tokenizer.decode(shown[0])))
    table = sinusoidal(config.model.context, config.model.width)
    np.savez(folder.arrays("positions"), table=table)
    training_text = tokenizer.decode(data.train.tokens)
    texts = {
        "sample": (folder.samples / "final.txt").read_text(),
        "held_out": tokenizer.decode(held_out.ravel()[:2000]),
    }
    figures = {
        f"{name}_{figure}": value
        for name, text in texts.items()
        for figure, value in sample_quality(text, training_text).items()
    }
    return figures | {
        f"attention_{name}": value
        for name, value in checks(maps, causal=not config.demo_unmasked).items()
    }


LAB = Lab(
    name="gpt",
    description=__doc__,
    config_class=GPTConfig,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=draw_samples,
    analyse=analyse,
    variant=lambda config: "-unmasked" if config.demo_unmasked else "",
)

if __name__ == "__main__":
    command.main(LAB)
