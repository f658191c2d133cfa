"""Feature extractor for FID: a trained image classifier, restored from its run folder."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxlabs.analysis.image_predictions import predict_all
from jaxlabs.config import ArgumentError, Config, canonical, runtime, settings
from jaxlabs.models import image_classifier
from jaxlabs.models.image_classifier import ImageClassifier, ImageClassifierConfig
from jaxlabs.run_folder import RunFolder
from jaxlabs.training.devices import data_parallel, to_host
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.task import Task

EXPERIMENT = "mnist_classifier"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FeatureExtractorConfig(Config):
    """Run folder of the classifier whose features are compared."""

    fid_classifier: str | None = runtime(
        f"runs/{EXPERIMENT}-quick",
        f"finished run of experiments.{EXPERIMENT} that extracts the features for FID; none: no"
        " FID",
        path_unless=(),
        aliases=("classifier",),
    )


class FeatureExtractor(NamedTuple):
    """A trained classifier, the names of its classes and its test accuracy."""

    model: ImageClassifier
    params: Any
    classes: tuple[str, ...]
    accuracy: float

    def extract(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns features and class probabilities of uint8 images, see `predict_all`."""
        return predict_all(self.model, self.params, images)


def restore_feature_extractor(path: str, dataset: Mapping[str, Any]) -> FeatureExtractor:
    """Returns the classifier of a run folder.

    It must have been trained on the data set of the images to evaluate, `DataModule.dataset`.

    Raises:
      UserError: the folder has no finished run of the classifier, or one on another data set.
    """
    refused = functools.partial(ArgumentError, "fid_classifier")
    name = dataset["name"]
    make = f"python -m experiments.{EXPERIMENT} --dataset={name} --workdir={path}"
    folder = RunFolder(path)
    if not folder.exists() or not folder.is_complete():
        raise refused(f"{path} has no finished run; train one with: {make}")
    config, summary = folder.read_config(), folder.read_summary()
    if config["experiment"] != EXPERIMENT:
        raise refused(
            f"{path} has a run of {config['experiment']}, not of {EXPERIMENT}; another folder or"
            " none"
        )
    trained_on = config.get("dataset", {})
    if trained_on.get("sha256") != dataset["sha256"]:
        raise refused(
            f"{path} was trained on {trained_on.get('name')} and not on these images, {name};"
            " another folder, or none"
        )
    if summary["metrics"].get("test_accuracy") is None:
        raise refused(f"{path} has no test_accuracy; train it again with: {make}")
    classes, shape = (tuple(dataset[key]) for key in ("classes", "shape"))
    try:
        settings_of_model = _config_from(ImageClassifierConfig, config["settings"])
        run = _config_from(RunConfig, config["settings"])
    except ArgumentError as error:
        reason = str(error).replace(error.argument, f"`{error.argument}`", 1)
        raise refused(f"{path}/config.json is damaged ({reason})") from None
    model = ImageClassifier(settings_of_model, len(classes))
    init = functools.partial(model.init, x=jnp.zeros((1, *shape), jnp.float32))
    task = Task(model, init, image_classifier.loss, image_classifier.train_step)
    # These need Orbax, which the help of `ddpm` and `autoencoder` does not.
    from jaxlabs.training.checkpoints import Checkpoints
    from jaxlabs.training.initial_state import inference_state

    with Checkpoints(folder.checkpoints, run.keep_checkpoints, read_only=True) as checkpoints:
        checkpoints.require_run(RunConfig, config)
        state = checkpoints.restore(inference_state(task, run, data_parallel()))
    if state is None:
        raise refused(f"{path} has no checkpoint; train one with: {make}")
    params = to_host(state.eval_params)
    return FeatureExtractor(model, params, classes, summary["metrics"]["test_accuracy"])


def _config_from(config_class: type[Config], values: Mapping[str, Any]) -> Any:
    """Builds a config from the flat settings of a run that has further ones."""
    values = canonical(config_class, values)
    names = [name for name, _ in settings(config_class)]
    return config_class.from_flat({name: values[name] for name in names if name in values})
