"""A study of batch normalization: training speed, maximum learning rate and regularization.

An image classifier with no, batch and layer normalization is trained at many learning rates from
several seeds; every claim of the papers gets metrics and a verdict. Further measurements: the scale
of activations by depth before training, and mini-batch against population statistics.

Source    Ioffe and Szegedy 2015; Ba et al. 2016; Hoffer et al. 2017; an unpublished course homework
Command   python -m experiments.normalization --platform=cpu
Expect    quick: 70 seconds on two cores; best learning rate 1 with batch norm, 0.316 without
"""

import dataclasses

import numpy as np

from jaxlabs.config import ArgumentError, group, positive, setting
from jaxlabs.data import images
from jaxlabs.labs.normalization import (
    activation_scale,
    batch_noise,
    norm_claims,
    norm_training,
    plots,
)
from jaxlabs.models.batchnorm_net import NormNetConfig
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.lab import Study, StudyData, StudyResult
from jaxlabs.training.run_config import CommonConfig

SCALE_IMAGES = 256
"""Images for the activation scale of untrained networks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class NormalizationRunConfig(CommonConfig):
    """Settings of the data, of the training and of the network."""

    dataset: str = setting(
        "mnist",
        "the path of a folder of images in a sub-folder by class",
        path_unless=images.NAMES,
        section="data",
    )
    train_images: int = setting(
        2000, "number of training images, few enough to be memorized", minimum=8, section="data"
    )
    num_eval_examples: int = setting(
        2000,
        "number of validation images, to select the learning rate, and of test images",
        minimum=8,
        aliases=("evaluated",),
        section="data",
    )
    steps: int = positive(800, "training steps per run", maximum=1_000_000, section="training")
    batch_size: int = setting(64, "images per step", minimum=2, section="training")
    seeds: int = positive(3, "runs per configuration, with consecutive seeds", maximum=10_000)
    min_learning_rate: float = setting(
        0.01, "smallest learning rate", above=0, aliases=("min_rate",), section="training"
    )
    max_learning_rate: float = setting(
        10.0, "largest learning rate", above=0, aliases=("max_rate",), section="training"
    )
    num_learning_rates: int = positive(
        7,
        "number of log-spaced learning rates",
        maximum=1000,
        aliases=("rates",),
        section="training",
    )
    # With more layers and a gain of 2, activations without a norm overflow float32.
    scale_layers: int = setting(
        32, "layers of the untrained networks of the activation scale", minimum=2, maximum=100
    )
    model: NormNetConfig = group(NormNetConfig)

    def check(self) -> None:
        super().check()
        if self.max_learning_rate < self.min_learning_rate:
            raise ArgumentError(
                "max_learning_rate",
                f"{self.max_learning_rate} is not accepted; at least `min_learning_rate`"
                f" {self.min_learning_rate}",
            )


PRESETS = {
    "quick": {},
    "cnn": {
        "network": "cnn",
        "num_layers": 4,
        "steps": 300,
        "batch_size": 32,
        "num_eval_examples": 1000,
    },
    "best": {
        "train_images": 10_000,
        "steps": 3000,
        "seeds": 5,
        "num_learning_rates": 13,
    },
}


def load_data(config: NormalizationRunConfig) -> StudyData:
    """Loads the images."""
    splits, facts, warning = norm_training.load(
        config.dataset, config.data_dir, config.train_images, config.num_eval_examples
    )
    return StudyData(splits, facts, warning)


def measure(config: NormalizationRunConfig, folder: RunFolder, data: StudyData) -> StudyResult:
    """Runs the trainings and both measurements."""
    splits, facts = data.content, data.dataset
    trained, state = norm_training.study(
        config.model,
        splits,
        rates=np.geomspace(
            config.min_learning_rate, config.max_learning_rate, config.num_learning_rates
        ),
        seeds=config.seeds_from(config.seeds),
        steps=config.steps,
        batch_size=config.batch_size,
    )
    inputs = splits.train.arrays["images"][:SCALE_IMAGES]
    scale = activation_scale.study(config.model, inputs, config.scale_layers, config.seed)
    noise = batch_noise.study(
        state, splits.train, splits.test, batch_size=config.batch_size, seed=config.seed
    )
    claims = [*norm_claims.training_claims(trained), norm_claims.scale_claim(scale)]
    statements = {f"claim_{claim.name}": np.array(str(claim)) for claim in claims}
    curves = norm_claims.curves(trained)
    folder.write_arrays("norm_training", **trained, **curves, **statements)
    folder.write_arrays("activation_scale", **scale, **statements)
    folder.write_arrays("batch_noise", **noise)
    metrics = norm_claims.metrics(claims) | norm_training.metrics(trained)
    metrics |= activation_scale.metrics(scale) | batch_noise.metrics(noise)
    table = "\n".join(f"{name} {value:.4g}" for name, value in metrics.items())
    text = [f"{facts['name']}, from {facts['source']}", "\n".join(map(str, claims)), table]
    verdicts = [
        {"claim": claim.statement, "evidence": claim.evidence, "verdict": claim.verdict}
        for claim in claims
    ]
    return StudyResult(metrics, "\n\n".join(text), {"claims": verdicts, "dataset": facts["name"]})


STUDY = Study(
    name="normalization",
    description=__doc__,
    config_class=NormalizationRunConfig,
    presets=PRESETS,
    measure=measure,
    plots={
        "norm_training": plots.training,
        "activation_scale": plots.activation_scale,
        "batch_noise": plots.batch_noise,
    },
    main_metrics=("best_rate_none", "best_rate_batch", "test_accuracy_none", "test_accuracy_batch"),
    load_data=load_data,
)
