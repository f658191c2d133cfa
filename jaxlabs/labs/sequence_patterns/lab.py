"""Sequence models on next-word prediction, sentiment, tagging and translation.

Four synthetic tasks with known optimal scores, or a file of your own, for four backbones. Many to
one: next-word prediction and sentiment classification. Aligned many to many: named entity tagging.
Unaligned many to many: translation with an encoder and a decoder.

Source    Elman 1990; Hochreiter and Schmidhuber 1997; Cho et al. 2014; Sutskever et al. 2014;
          Luong et al. 2015; Vaswani et al. 2017
Command   python -m experiments.sequence_patterns --task=translation --backbone=lstm --platform=cpu
Expect    quick: 3 minutes on two cores, 99 % of the optimum on sentences of the training lengths;
          less on longer sentences, depending on the backbone
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from jaxlabs.config import group, setting
from jaxlabs.data.dataset import DataModule, DataSpec
from jaxlabs.data.sequence_data import (
    GRAMMAR,
    GRAMMARS,
    SPECIAL_TOKENS,
    SequenceDataConfig,
    load_vocabs,
    sequence_data,
)
from jaxlabs.labs.sequence_patterns import plot_arrays, plots, sequence_predictions
from jaxlabs.labs.sequence_patterns.sequence_baselines import baselines
from jaxlabs.models import seq2seq, sequence_classifier
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.lab import Lab
from jaxlabs.runner.sweep_plan import Sweep
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class SequencePatternsRunConfig(RunConfig):
    """Settings of a run, of the data, of the model and of predictions."""

    task: str = setting("translation", "the task", choices=GRAMMARS, section="data")
    dataset: str = setting(
        GRAMMAR,
        "the path of a file: a sentence per line (next_word), label, tab, sentence (sentiment),"
        " sentence, tab, translation (translation), CoNLL columns (tagging); grammar: synthetic",
        path_unless=(GRAMMAR,),
    )
    sizes: SequenceDataConfig = group(SequenceDataConfig, section="data")
    model: sequence_classifier.SequenceConfig = group(sequence_classifier.SequenceConfig)
    sampling: sequence_predictions.SequenceSamplingConfig = group(
        sequence_predictions.SequenceSamplingConfig
    )


QUICK = {
    # About one epoch: repeated examples of a probabilistic grammar would be memorized.
    "train_sentences": 400_000,
    "steps": 3000,
    "batch_size": 128,
    "optimizer": "muon",
    "learning_rate": 3e-3,
    "lr_schedule": "linear",
    "warmup_steps": 50,
    "decay_steps": 2500,
    "adam_b2": 0.99,
    "weight_decay": 0.0,
    "grad_clip_norm": 1.0,
    "ema_decay": 0.99,
    "eval_batch_size": 256,
    "eval_every": 1000,
    "checkpoint_every": 1000,
}

PRESETS = {
    "quick": QUICK,
    # The training that a tanh RNN needs to reach the next-word accuracy of the other backbones.
    "long": {
        **QUICK,
        "train_sentences": 1_600_000,
        "num_layers": 1,
        "embed_dim": 128,
        "steps": 8000,
        "batch_size": 256,
        "decay_steps": 7500,
        "ema_decay": 0.995,
    },
}


def load_data(config: SequencePatternsRunConfig) -> DataModule:
    """Samples the sentences from a grammar, or loads them from a file."""
    return sequence_data(config.task, config.dataset, config.seed, config.sizes, baselines)


def build_task(config: SequencePatternsRunConfig, data_spec: DataSpec) -> Task:
    """Builds the model; raises if the prompt has words outside the vocabulary."""
    sequence_predictions.require_known(config.sampling.prompt, data_spec)
    source, target = load_vocabs(data_spec)
    length, dummy = data_spec["source_length"], jnp.ones((1, 2), jnp.int32)
    if config.task == "translation":
        module = seq2seq
        model = seq2seq.Seq2Seq(
            config.model,
            source_vocab_size=source.size,
            target_vocab_size=target.size,
            source_length=length,
            target_length=data_spec["target_length"],
        )
        init = functools.partial(model.init, source=dummy, target=dummy)
    else:
        module = sequence_classifier
        model = sequence_classifier.SequenceClassifier(
            config.model,
            source.size,
            labels=SPECIAL_TOKENS + target.words,
            length=length,
            per_token=config.task == "tagging",
            bidirectional=config.task != "next_word",
        )
        init = functools.partial(model.init, tokens=dummy)
    return Task(model, init, module.loss, module.train_step, module.derived_metrics)


def sample(
    config: SequencePatternsRunConfig,
    task: Task,
    data_spec: DataSpec,
    state: TrainState,
    key: jax.Array,
) -> str:
    """Returns predictions for the prompt, or for a few test sentences."""
    params = state.eval_params
    return sequence_predictions.format_predictions(
        task.model, params, data_spec, config.sampling, key
    )


def analyze(
    config: SequencePatternsRunConfig,
    task: Task,
    data: DataModule,
    state: TrainState,
    folder: RunFolder,
) -> dict[str, float]:
    """Evaluates whole sentences; writes attention weights and tags."""
    model, params, batch_size = task.model, state.eval_params, config.eval_batch_size
    plot_arrays.write_plot_arrays(folder, model, params, data, config.model.backbone, batch_size)
    return sequence_predictions.measure(
        model,
        params,
        data,
        config.task,
        config.sampling,
        batch_size,
        synthetic=config.dataset == GRAMMAR,
    )


LAB = Lab(
    name="sequence_patterns",
    description=__doc__,
    config_class=SequencePatternsRunConfig,
    presets=PRESETS,
    load_data=load_data,
    build_task=build_task,
    sample=sample,
    analyze=analyze,
    plots={
        "sequence_pattern": plots.pattern,
        "alignment": plots.alignment,
        "tagged_words": plots.tagged_words,
    },
    main_metrics=("test_relative_score", "long_relative_score"),
    run_suffix=lambda config: f"-{config.task}-{config.model.backbone}",
    sweeps={
        "backbones": Sweep(
            question="Which backbone reaches the optimum and generalizes to longer sentences?",
            axes={"backbone": sequence_classifier.BACKBONES, "seed": (0, 1, 2)},
            metrics=("test_relative_score", "long_relative_score", "test_loss"),
        )
    },
)
