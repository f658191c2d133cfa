"""A Transformer encoder that classifies sentences by speaker.

Source    an unpublished course write-up on the data of UCSD CSE 256, programming assignment 2
Command   python -m experiments.speech_classifier --platform=cpu
Expect    quick: seconds of training, test accuracy about 90 %; best: half a minute, 90.5 %. Of the
          750 test sentences, 551 also occur in the training file; test_unseen holds the others
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.analysis import attention_maps
from jaxlabs.config import group, positive, runtime, setting
from jaxlabs.data import speeches
from jaxlabs.data.dataset import DataModule, DataSpec
from jaxlabs.data.speech_data import classification_data
from jaxlabs.data.tokenizers import WordTokenizer, split_words
from jaxlabs.labs.speech_classifier import published, sentence_predictions
from jaxlabs.models import text_encoder
from jaxlabs.report import attention_plots, confusion
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.lab import Lab
from jaxlabs.runner.sweep_plan import Sweep, precision_sweep
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechClassifierRunConfig(RunConfig):
    """Settings of a run, of the model and of predictions."""

    dataset: str = setting(
        "speeches", "the path of a folder of such files", path_unless=speeches.NAMES
    )
    validation_fraction: float = setting(
        0.0,
        "fraction of the training sentences held out for validation",
        minimum=0,
        maximum=0.9,
        section="data",
    )
    min_count: int = positive(
        1,
        "minimum count of a word in the training files; rarer words are <unk>",
        aliases=("rare_below",),
        section="data",
    )
    class_weights: bool = setting(
        False,
        "weight training sentences for equal total weight by speaker",
        aliases=("balanced",),
        section="training",
    )
    model: text_encoder.TextClassifierConfig = group(text_encoder.TextClassifierConfig)
    maps: attention_maps.AttentionMapsConfig = group(
        attention_maps.AttentionMapsConfig, section="report"
    )
    prompt: str | None = runtime(
        None, "a sentence to classify; none: a few test sentences", section="sampling"
    )


STEPS_PER_EPOCH = 131
"""Steps of an epoch of the 2,092 training sentences in batches of 16."""

# A linear model of hashed unigrams and bigrams, plus a small encoder with strong dropout.
BIGRAMS = {
    "ngram_hash_buckets": 120_000,
    "num_layers": 1,
    "embed_dim": 32,
    "mlp_dim": 64,
    "dropout": 0.5,
    "word_dropout": 0.3,
    "head_dropout": 0.95,
    "embedding_init_std": 0.02,
    "class_weights": True,
    "batch_size": 64,
    "learning_rate": 1e-2,
    "lr_schedule": "cosine",
    "weight_decay": 0.0,
}

PRESETS = {
    "quick": {
        **BIGRAMS,
        "steps": 400,
        "eval_every": 100,
    },
    "reference": {
        "vocab_size": 5755,
        "batch_size": 16,
        "steps": 15 * STEPS_PER_EPOCH,
        "learning_rate": 1e-3,
        "weight_decay": 0.0,
        "eval_every": STEPS_PER_EPOCH,
    },
    "best": {
        **BIGRAMS,
        "steps": 990,
        "eval_every": 198,
    },
}


def load_data(config: SpeechClassifierRunConfig) -> DataModule:
    """Loads the sentences, truncated to the context length."""
    return classification_data(
        speeches.load(config.dataset, config.data_dir),
        config.model.context_length,
        validation_fraction=config.validation_fraction,
        min_count=config.min_count,
        class_weights=config.class_weights,
    )


def build_task(config: SpeechClassifierRunConfig, data_spec: DataSpec) -> Task:
    """Builds the model; raises if all words of the prompt are out of vocabulary."""
    sentence_predictions.require_known(config.prompt, data_spec)
    size = WordTokenizer.from_json(data_spec).vocab.size
    model = text_encoder.TextClassifier(config.model.with_vocabulary(size))
    tokens = jnp.zeros((1, config.model.context_length), jnp.int32)
    init = functools.partial(model.init, tokens=tokens)
    return Task(model, init, text_encoder.loss, text_encoder.train_step)


def sample(
    config: SpeechClassifierRunConfig,
    task: Task,
    data_spec: DataSpec,
    state: TrainState,
    key: jax.Array,
) -> str:
    """Returns sentences with their predicted speaker probabilities; deterministic."""
    return sentence_predictions.format_predictions(
        task.model, state.eval_params, data_spec, config.prompt
    )


def analyze(
    config: SpeechClassifierRunConfig,
    task: Task,
    data: DataModule,
    state: TrainState,
    folder: RunFolder,
) -> dict[str, float]:
    """Writes confusion matrices and attention maps."""
    params = state.eval_params
    count = functools.partial(sentence_predictions.confusion_counts, task.model, params)
    splits = [name for name in data.eval_sets if name.startswith("test")]
    counts = {name: count(data.eval_sets[name], config.eval_batch_size) for name in splits}
    matrices, names = np.stack([*counts.values()]), data.data_spec["speakers"]
    folder.write_arrays("confusion", counts=matrices, splits=splits, labels=names)
    texts = config.maps.texts() or attention_maps.SENTENCES
    encode = WordTokenizer.from_json(data.data_spec).encode
    encoded = attention_maps.encode_texts(
        texts, split_words, encode, config.model.context_length, padding=4
    )
    leaks = attention_maps.write_maps(
        folder, config.maps, task.model, params, encoded, causal=False
    )
    accuracies = sentence_predictions.class_accuracies(counts["test"], list(speeches.SPEAKERS))
    metrics = {f"test_{name}_accuracy": value for name, value in accuracies.items()}
    return metrics | {f"attention_{name}": value for name, value in leaks.items()}


LAB = Lab(
    name="speech_classifier",
    description=__doc__,
    config_class=SpeechClassifierRunConfig,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=sample,
    analyze=analyze,
    plots={"attention_maps": attention_plots.attention, "confusion": confusion.confusion},
    published=published.PUBLISHED_RESULTS,
    main_metrics=("test_accuracy", "test_unseen_accuracy"),
    sweeps={
        "seeds": Sweep(
            question="Variance of the accuracy over seeds?",
            axes={"seed": (0, 1, 2, 3, 4)},
            metrics=("test_accuracy", "test_unseen_accuracy", "train_sentences_accuracy"),
        ),
        "precision": precision_sweep("test_unseen_loss", "test_loss", "train_sentences_loss"),
    },
)
