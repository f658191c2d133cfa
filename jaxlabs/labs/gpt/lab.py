"""A decoder-only Transformer (GPT) as a language model, by default of characters.

Source    an unpublished course write-up of the character GPT; nanoGPT's train_shakespeare_char
Command   python -m experiments.gpt --platform=cpu
Expect    quick: one to four minutes of training on two cores, held-out loss about 1.53 nats
"""

import dataclasses
import functools

import jax.numpy as jnp

from jaxlabs import keys
from jaxlabs.analysis import attention_maps, text_sampling
from jaxlabs.analysis.baselines import ngram_baselines
from jaxlabs.config import group, setting
from jaxlabs.data import documents, texts, tokenizers
from jaxlabs.data.dataset import DataModule, DataSpec
from jaxlabs.data.lm_data import lm_data
from jaxlabs.labs.gpt import published
from jaxlabs.layers.positions import sinusoidal_embedding
from jaxlabs.models import transformer_lm
from jaxlabs.report import attention_plots
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.lab import Lab
from jaxlabs.runner.sweep_plan import Sweep, precision_sweep
from jaxlabs.training.run_config import TextRunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPTRunConfig(TextRunConfig):
    """Settings of a run, of the model, of sampling and of attention maps."""

    dataset: str = setting("tiny_shakespeare", texts.PATH, path_unless=texts.NAMES)
    files: texts.TextFilesConfig = group(texts.TextFilesConfig, section="data")
    tokenizer: str = setting("char", tokenizers.HELP, path_unless=tokenizers.NAMES, section="data")
    documents: str = setting("joined", documents.HELP, choices=documents.DOCUMENTS, section="data")
    model: transformer_lm.TransformerLMConfig = group(transformer_lm.TransformerLMConfig)
    sampling: text_sampling.TransformerSamplingConfig = group(
        text_sampling.TransformerSamplingConfig
    )
    maps: attention_maps.AttentionMapsConfig = group(
        attention_maps.AttentionMapsConfig, section="report"
    )

    def check(self) -> None:
        super().check()
        tokenizers.parse(self.tokenizer)


# Architecture later than GPT-2, in all presets but the reference.
MODERN_BLOCK = {
    "positions": "rotary",
    "norm": "rmsnorm",
    "qk_norm": True,
    "bias": False,
    "activation": "squared_relu",
    "zero_init_residual": True,
    "short_conv_width": 4,
}
MUON = {
    "optimizer": "muon",
    "learning_rate": 6e-3,
    "lr_schedule": "linear",
    "adam_b2": 0.95,  # of Adam, for the embedding, the head and the convolutions
    "weight_decay": 0.0,
}
PRESETS = {
    "quick": {
        **MODERN_BLOCK,
        **MUON,
        "context_length": 128,
        "num_layers": 4,
        "embed_dim": 128,
        "num_heads": 2,
        "mlp_dim": 512,
        "dropout": 0.0,
        "steps": 900,
        "decay_steps": 450,
        "batch_size": 16,
    },
    "reference": {
        "steps": 2000,
        "batch_size": 64,
        "grad_accum_steps": 16,
        "eval_batch_size": 16,
    },
    # Minimal time to nanoGPT's best held-out loss, 1.4697 (docs/results.md).
    # A sliding window makes a long context cheap. A batch this small suits one or two devices.
    "speedrun": {
        **MODERN_BLOCK,
        **MUON,
        "context_length": 1024,
        "attention_window": 64,
        "num_layers": 6,
        "embed_dim": 192,
        "num_heads": 3,
        "mlp_dim": 768,
        "dropout": 0.1,
        "batch_size": 4,
        "grad_accum_steps": 2,
        "eval_batch_size": 16,
        "steps": 1000,
        "decay_steps": 600,
        "matmul_precision": "bfloat16",
    },
}


def load_data(config: GPTRunConfig) -> DataModule:
    """Loads the text as windows of the context length."""
    dataset = texts.load(config.dataset, config.data_dir, files=config.files)
    return lm_data(
        dataset,
        config.model.context_length,
        config.seed,
        ngram_baselines,
        tokenizer=config.tokenizer,
        documents=config.documents,
        data_dir=config.data_dir,
        eval_tokens=config.eval_tokens,
    )


def build_task(config: GPTRunConfig, data_spec: DataSpec) -> Task:
    """Builds the model; raises if the prompts have characters or words outside the vocabulary."""
    tokenizer = tokenizers.load(data_spec)
    config.sampling.encode_prompt(tokenizer)
    text_sampling.encode("".join(config.maps.texts().values()), tokenizer, "attention_text")
    model = transformer_lm.TransformerLM(config.model.with_vocabulary(tokenizer.vocab_size))
    tokens = jnp.zeros((1, config.model.context_length), jnp.int32)
    init = functools.partial(model.init, tokens=tokens)
    return Task(model, init, transformer_lm.loss, transformer_lm.train_step)


sample = text_sampling.sampler(transformer_lm.sample)


def analyze(
    config: GPTRunConfig, task: Task, data: DataModule, state: TrainState, folder: RunFolder
) -> dict[str, float]:
    """Evaluates the samples; writes attention maps and the position table."""
    tokenizer, model = tokenizers.load(data.data_spec), config.model
    held_out = data.eval_sets["held_out"].arrays["inputs"][0]
    encoded = attention_maps.text_examples(config.maps.texts(), tokenizer, held_out)
    masks = {"causal": not model.no_causal_mask, "window": model.attention_window}
    params = state.eval_params
    leaks = attention_maps.write_maps(folder, config.maps, task.model, params, encoded, **masks)
    if model.positions == "sinusoidal":
        table = sinusoidal_embedding(model.context_length, model.embed_dim)
        folder.write_arrays("positions", table=table)
    key = keys.at_step(config.seed, "sample", state.step)
    samples = sample(config, task, data.data_spec, state, key)
    metrics = text_sampling.measure(samples, config.sampling, data)
    return metrics | {f"attention_{name}": value for name, value in leaks.items()}


# Informative only if the platform has bfloat16 matmuls; otherwise both are float32.
MATMUL_PRECISION = Sweep(
    question="Does bfloat16 matmul precision change the loss, against float32?",
    axes={"matmul_precision": ("highest", "bfloat16"), "seed": (0, 1, 2)},
    metrics=("held_out_loss", "train_windows_loss"),
    settings={"steps": 300, "eval_every": 300},
)

LAB = Lab(
    name="gpt",
    description=__doc__,
    config_class=GPTRunConfig,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=sample,
    analyze=analyze,
    plots={
        "attention_maps": attention_plots.attention,
        "positions": attention_plots.positions,
    },
    published=published.PUBLISHED_RESULTS,
    main_metrics=("held_out_loss", "sliding_window_loss"),
    sweeps={
        "matmul_precision": MATMUL_PRECISION,
        "precision": precision_sweep(
            "held_out_loss", "train_windows_loss", steps=300, eval_every=300
        ),
    },
    run_suffix=lambda config: "-unmasked" if config.model.no_causal_mask else "",
)
