"""Who says it? A Transformer encoder learns to tell three speakers apart by single sentences.

Source    an unpublished course write-up on the data of UCSD CSE 256, programming assignment 2
Command   python -m experiments.speech_classifier --platform=cpu
Expect    quick: seconds of training, test accuracy about 90 %; best: half a minute, 90.5 %. Of the
          750 test sentences, 551 stand in the training file as well: test_unseen is the others
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import command
from jaxlabs.analysis import attention_maps, sentence_predictions
from jaxlabs.config import RUNTIME, group, setting
from jaxlabs.data import speeches
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.speech_data import classification_data
from jaxlabs.data.tokenizers import WordTokenizer, split_words
from jaxlabs.lab import Lab
from jaxlabs.models import text_encoder
from jaxlabs.run_folder import RunFolder
from jaxlabs.sweep_plan import Sweep
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class SpeechClassifierConfig(RunConfig):
    """A run's settings, the model's, and those of what is shown."""

    dataset: str = setting(
        "speeches", "the path of a folder of such files", path_unless=speeches.NAMES
    )
    validation_fraction: float = setting(
        0.0,
        "share of training sentences held out, to choose settings by",
        minimum=0,
        maximum=0.9,
        section="data",
    )
    min_count: int = setting(
        1,
        "words that the training files hold less often than this are unknown",
        minimum=1,
        aliases=("rare_below",),
        section="data",
    )
    class_weights: bool = setting(
        False,
        "training weighs sentences so that speakers count the same",
        aliases=("balanced",),
        section="training",
    )
    model: text_encoder.TextClassifierConfig = group(text_encoder.TextClassifierConfig)
    maps: attention_maps.AttentionMapsConfig = group(
        attention_maps.AttentionMapsConfig, section="report"
    )
    prompt: str | None = setting(
        None,
        "a sentence to be told whose it is; none: a few test sentences",
        kind=RUNTIME,
        section="sampling",
    )


EPOCH = 131  # batches of 16 that hold the 2,092 training sentences

# Words and pairs of words vote; a small encoder, held back by much dropout, adds what it can.
VOTES = {
    "ngram_hash_buckets": 120_000,
    "num_layers": 1,
    "embed_dim": 32,
    "mlp_dim": 64,
    "dropout": 0.5,
}
VOTES |= {
    "word_dropout": 0.3,
    "head_dropout": 0.95,
    "embedding_init_std": 0.02,
    "class_weights": True,
}
VOTES |= {"batch_size": 64, "learning_rate": 1e-2, "weight_decay": 0.0, "lr_schedule": "cosine"}

PRESETS = {
    "quick": VOTES | {"steps": 400, "eval_every": 100},
    "reference": {"vocabulary_size": 5755, "batch_size": 16, "steps": 15 * EPOCH}
    | {"learning_rate": 1e-3, "weight_decay": 0.0, "eval_every": EPOCH},
    "best": VOTES | {"steps": 990, "eval_every": 198},
}


def load_data(config: SpeechClassifierConfig) -> DataModule:
    """Reads the sentences and cuts them to the model's context."""
    return classification_data(
        speeches.load(config.dataset, config.data_dir),
        config.model.context_length,
        validation_fraction=config.validation_fraction,
        min_count=config.min_count,
        class_weights=config.class_weights,
    )


def build_task(config: SpeechClassifierConfig, data_spec: Mapping[str, Any]) -> Task:
    """Makes the model for the data's words, of which the prompt must have one."""
    sentence_predictions.require_known(config.prompt, data_spec)
    size = WordTokenizer.from_json(data_spec).vocabulary_size
    model = text_encoder.TextClassifier(config.model.with_vocabulary(size))
    init = functools.partial(
        model.init, tokens=jnp.zeros((1, config.model.context_length), jnp.int32)
    )
    steps = text_encoder.loss, text_encoder.train_step
    return Task(model, init, *steps, random=config.model.drops_out)


def tell_speakers(
    config: SpeechClassifierConfig,
    task: Task,
    data_spec: Mapping[str, Any],
    state: TrainState,
    key: jax.Array,
) -> str:
    """Returns sentences with their likeliest speakers; nothing is drawn at random."""
    return sentence_predictions.format_predictions(
        task.model, state.eval_params, data_spec, config.prompt
    )


def analyze(
    config: SpeechClassifierConfig,
    task: Task,
    data: DataModule,
    state: TrainState,
    folder: RunFolder,
) -> dict[str, float]:
    """Counts who is taken for whom; writes that and attention maps for the report."""
    params, tokenizer = state.eval_params, WordTokenizer.from_json(data.data_spec)
    count = functools.partial(sentence_predictions.confusion_counts, task.model, params)
    splits = {name: part for name, part in data.eval_sets.items() if name.startswith("test")}
    counts = {name: count(part, config.eval_batch_size) for name, part in splits.items()}
    matrices, names = np.stack(list(counts.values())), data.data_spec["speakers"]
    folder.write_arrays("confusion", counts=matrices, splits=list(counts), labels=names)
    texts = config.maps.texts() or attention_maps.SENTENCES
    length, encode = config.model.context_length, tokenizer.encode
    shown = attention_maps.encode_texts(texts, split_words, encode, length, padding=4)
    leaks = attention_maps.write_maps(folder, config.maps, task.model, params, shown, causal=False)
    accuracies = sentence_predictions.class_accuracies(counts["test"], list(speeches.SPEAKERS))
    figures = {f"test_{name}_accuracy": value for name, value in accuracies.items()}
    return figures | {f"attention_{name}": value for name, value in leaks.items()}


LAB = Lab(
    name="speech_classifier",
    description=__doc__,
    config_class=SpeechClassifierConfig,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=tell_speakers,
    analyze=analyze,
    sweeps={
        "seeds": Sweep(
            question="How much of the accuracy is the luck of the seed?",
            axes={"seed": (0, 1, 2, 3, 4)},
            metrics=("test_accuracy", "test_unseen_accuracy", "train_sentences_accuracy"),
        )
    },
)

if __name__ == "__main__":
    command.main(LAB)
