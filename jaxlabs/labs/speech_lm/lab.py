"""A Transformer language model of speeches, by default of words, with full or local attention.

Source    an unpublished course write-up on the data of UCSD CSE 256, programming assignment 2
Command   python -m experiments.speech_lm --platform=cpu
Expect    quick: a minute on two cores, test perplexities about 300, 380 and 320
"""

import dataclasses
import functools

import jax.numpy as jnp

from jaxlabs.analysis import attention_maps, text_sampling
from jaxlabs.analysis.baselines import ngram_baselines
from jaxlabs.config import group, positive, setting
from jaxlabs.data import speeches, tokenizers
from jaxlabs.data.dataset import DataModule, DataSpec
from jaxlabs.data.speech_data import word_lm_data
from jaxlabs.data.tokenizers import WordTokenizer
from jaxlabs.labs.speech_lm import published
from jaxlabs.losses.cross_entropy import perplexity
from jaxlabs.models import transformer_lm
from jaxlabs.report import attention_plots
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.lab import Lab
from jaxlabs.runner.sweep_plan import Sweep
from jaxlabs.training.run_config import TextRunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechLMRunConfig(TextRunConfig):
    """Settings of a run, of the model, of sampling and of attention maps."""

    dataset: str = setting(
        "speeches", "the path of a folder of such files", path_unless=speeches.NAMES
    )
    tokenizer: str = setting("word", tokenizers.HELP, path_unless=tokenizers.NAMES, section="data")
    validation_fraction: float = setting(
        0.0,
        "fraction of the training text held out for validation",
        minimum=0,
        maximum=0.9,
        section="data",
    )
    sliding_stride: int = positive(
        1,
        "stride of the sliding-window evaluation: tokens that each window scores",
        section="evaluation",
    )
    model: transformer_lm.TransformerLMConfig = group(transformer_lm.TransformerLMConfig)
    sampling: text_sampling.WordSamplingConfig = group(text_sampling.WordSamplingConfig)
    maps: attention_maps.AttentionMapsConfig = group(
        attention_maps.AttentionMapsConfig, section="report"
    )

    def check(self) -> None:
        super().check()
        tokenizers.parse(self.tokenizer)


REFERENCE = {
    "vocab_size": 5755,
    "context_length": 32,
    "embed_dim": 64,
    "num_layers": 4,
    "num_heads": 2,
    "mlp_dim": 100,
    "positions": "learned",
    "init": "pytorch",
    "dropout": 0.0,
    "steps": 500,
    "batch_size": 16,
    "weight_decay": 0.0,
    "eval_every": 100,
}
# Architecture later than GPT-2, and strong regularization against overfitting a small text.
BEST = {
    **REFERENCE,
    "vocab_size": None,
    "positions": "rotary",
    "norm": "rmsnorm",
    "qk_norm": True,
    "bias": False,
    "activation": "squared_relu",
    "zero_init_residual": True,
    "init": "gpt2",
    "dropout": 0.3,
    "weight_decay": 1.0,
    "ema_decay": 0.99,
}

PRESETS = {
    "quick": BEST | {"sliding_stride": 8},
    "reference": REFERENCE,
    "best": BEST,
    "window": REFERENCE | {"attention_window": 8},
}


def load_data(config: SpeechLMRunConfig) -> DataModule:
    """Loads the text as windows of the context length."""
    return word_lm_data(
        speeches.load(config.dataset, config.data_dir),
        config.model.context_length,
        ngram_baselines,
        config.validation_fraction,
        config.sliding_stride,
        tokenizer=config.tokenizer,
        data_dir=config.data_dir,
        eval_tokens=config.eval_tokens,
    )


def build_task(config: SpeechLMRunConfig, data_spec: DataSpec) -> Task:
    """Builds the model; raises if the prompt has unknown words or characters."""
    tokenizer = tokenizers.load(data_spec)
    config.sampling.encode_prompt(tokenizer)
    text_sampling.encode("".join(config.maps.texts().values()), tokenizer, "attention_text")
    model = transformer_lm.TransformerLM(config.model.with_vocabulary(tokenizer.vocab_size))
    tokens = jnp.zeros((1, config.model.context_length), jnp.int32)
    init = functools.partial(model.init, tokens=tokens)
    return Task(model, init, transformer_lm.loss, transformer_lm.train_step, perplexity)


sample = text_sampling.sampler(transformer_lm.sample)


def analyze(
    config: SpeechLMRunConfig, task: Task, data: DataModule, state: TrainState, folder: RunFolder
) -> dict[str, float]:
    """Writes attention maps; returns the OOV rates of the test texts, if the tokens are words."""
    tokenizer, model = tokenizers.load(data.data_spec), config.model
    sentences = attention_maps.SENTENCES if isinstance(tokenizer, WordTokenizer) else {}
    texts, shown = config.maps.texts() or sentences, data.eval_sets[data.monitor].arrays["inputs"]
    encoded = attention_maps.text_examples(texts, tokenizer, shown[0])
    masks = {"causal": not model.no_causal_mask, "window": model.attention_window}
    params, rates = state.eval_params, data.dataset.get("oov_rates", {})
    leaks = attention_maps.write_maps(folder, config.maps, task.model, params, encoded, **masks)
    unknown = {
        f"{one}_unknown": rates[file] for one, file in speeches.TEST_TEXTS.items() if file in rates
    }
    return unknown | {f"attention_{name}": value for name, value in leaks.items()}


def _sweep(question: str, *windows: int, **settings: int) -> Sweep:
    """Returns a sweep of full against local attention, with a large stride to save time."""
    return Sweep(
        question=question,
        axes={"attention_window": (None, *windows), "seed": (0, 1, 2, 3, 4)},
        metrics=[f"{split}_perplexity" for split in ("train_text", *speeches.SPEAKERS)],
        settings={"sliding_stride": 32} | settings,
    )


WINDOW_SIZES = _sweep("Does local attention have a lower perplexity?", 16, 8, 4, 2)
LONG_TRAINING = _sweep(
    "Does full attention win with longer training?", 8, steps=3000, eval_every=500
)

LAB = Lab(
    name="speech_lm",
    description=__doc__,
    config_class=SpeechLMRunConfig,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=sample,
    analyze=analyze,
    plots={"attention_maps": attention_plots.attention},
    published=published.PUBLISHED_RESULTS,
    main_metrics=("obama_perplexity", "wbush_perplexity", "hbush_perplexity"),
    sweeps={"windows": WINDOW_SIZES, "window_long": LONG_TRAINING},
)
