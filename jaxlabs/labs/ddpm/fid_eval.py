"""FID, precision and recall of diffusion samples by sampler and number of steps."""

import contextlib
import dataclasses
import hashlib
import sys
from typing import Any

import jax
import numpy as np
import tqdm

from jaxlabs.analysis import feature_extractor, fid
from jaxlabs.analysis.feature_extractor import FeatureExtractor, FeatureExtractorConfig
from jaxlabs.analysis.fid import as_bytes, class_histogram, fid_metrics, nearest_neighbors
from jaxlabs.config import ArgumentError, Config, UserError, group, runtime
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import DataModule
from jaxlabs.diffusion.samplers import SAMPLERS
from jaxlabs.labs.ddpm import diffusion_samples
from jaxlabs.labs.ddpm.diffusion_samples import ImageSamplingConfig
from jaxlabs.models.ddpm import UNet
from jaxlabs.run_folder import RunFolder

NEIGHBORS = 8
MANY_STEPS, REDUCTION = 100, 5
"""Above MANY_STEPS steps, the number of samples is divided by REDUCTION to limit the time."""

SAVE_EVERY = 16_000
"""Sampler steps, summed over images, between two writes of the samples: about a CPU minute."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FIDConfig(Config):
    """Options of the evaluation of samples."""

    fid_samples: int = runtime(
        10_000,
        f"samples of each FID; a fifth of it above {MANY_STEPS} steps; 0: no evaluation",
        minimum=0,
        maximum=1_000_000,
        aliases=("quality_samples",),
    )
    fid_steps: str = runtime(
        "20", "comma-separated numbers of sampler steps to evaluate", aliases=("quality_steps",)
    )
    fid_samplers: str = runtime(
        "dpm_solver",
        f"comma-separated samplers to evaluate, of {', '.join(SAMPLERS)}",
        aliases=("quality_samplers",),
    )
    feature_extractor: FeatureExtractorConfig = group(FeatureExtractorConfig)

    def check(self) -> None:
        for sampler in self.fid_samplers.split(","):
            if sampler not in SAMPLERS:
                raise ArgumentError(
                    "fid_samplers", f"{sampler!r} is not accepted; of {', '.join(SAMPLERS)}"
                )
        if not self.fid_steps.replace(",", "").isdecimal() or 0 in self.steps():
            raise ArgumentError(
                "fid_steps",
                f"{self.fid_steps!r} is not accepted; integers of at least 1 with commas between"
                " them",
            )

        too_few = [steps for steps in self.steps() if 0 < self.count(steps) <= fid.NEIGHBORS]
        if too_few:
            raise ArgumentError(
                "fid_samples",
                f"{self.fid_samples} is not accepted with `fid_steps` {self.fid_steps}; 0, or more"
                f" than {fid.NEIGHBORS} for each number of steps",
            )

    def steps(self) -> list[int]:
        """Returns the numbers of steps."""
        return [int(steps) for steps in self.fid_steps.split(",") if steps]

    def count(self, steps: int) -> int:
        """Returns the number of samples for this number of steps."""
        return -(-self.fid_samples // (REDUCTION if steps > MANY_STEPS else 1))


def load_feature_extractor(config: FIDConfig, dataset: dict[str, Any]) -> FeatureExtractor | None:
    """Returns the feature extractor, or None if the default run does not exist.

    Raises:
      UserError: the given run does not exist or does not fit the data set.
    """
    path = config.feature_extractor.fid_classifier
    if path is None or not config.fid_samples:
        return None
    if path == FeatureExtractorConfig().fid_classifier and not RunFolder(path).exists():
        return None
    return feature_extractor.restore_feature_extractor(path, dataset)


def measure(
    model: UNet,
    params: Any,
    sampling: ImageSamplingConfig,
    config: FIDConfig,
    data: DataModule,
    folder: RunFolder,
    key: jax.Array,
) -> dict[str, float]:
    """Evaluates samples of every sampler and number of steps, in place of those of `sampling`.

    The same number of real training images is evaluated as a reference. Samples are quantized to 8
    bits first. Writes the arrays `fid_by_steps` and `class_histogram`, and the samples,
    `samples/samples_<sampler>_<steps>.npz`, which later calls with the same model and options
    reuse.

    Returns:
      Metrics by name: `<sampler>_<steps>_<metric>` of samples, `real_data_<count>_<metric>` of real
      training images, and `classifier_accuracy`.
    """
    extractor = load_feature_extractor(config, data.dataset)
    path = config.feature_extractor.fid_classifier
    if extractor is None:
        if config.fid_samples and path is not None:
            train = f"python -m experiments.{feature_extractor.EXPERIMENT}"
            print(
                f"FID is not computed: no classifier in {path}; train one with {train}"
                f" --dataset={data.dataset['name']}, then rerun with --mode=analyze",
                file=sys.stderr,
            )
        return {}
    real, test_probabilities = extractor.extract(whole_test(data).arrays["images"])
    pairs = [(name, n) for name in config.fid_samplers.split(",") for n in config.steps()]
    work = sum(config.count(steps) * steps for _, steps in pairs)
    bar = tqdm.tqdm(total=work, desc="samples", unit="step", unit_scale=True, disable=None)
    rows, metrics, probabilities_of = [], {}, {}
    with bar:
        for name, steps in pairs:
            sampler = dataclasses.replace(sampling.sampler, sampler=name, sampler_steps=steps)
            options = dataclasses.replace(sampling, sampler=sampler)
            samples = _samples(model, params, options, key, config.count(steps), folder, bar)
            features, probabilities = extractor.extract(samples)
            values = fid_metrics(real, features, probabilities)
            rows.append({"sampler": name, "steps": steps, "count": len(samples)} | values)
            metrics |= {f"{name}_{steps}_{metric}": value for metric, value in values.items()}
            probabilities_of.setdefault(len(samples), probabilities)
    train, real_data = data.train.arrays["images"], {}
    for count in sorted(probabilities_of):
        indices = np.random.default_rng(0).permutation(len(train))[:count]
        count = len(indices)  # all, where there are fewer
        values = fid_metrics(real, *extractor.extract(train[indices]))
        real_data[count] = values["fid"]
        metrics |= {f"real_data_{count}_{metric}": value for metric, value in values.items()}
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    reference = {"real_data_count": [*real_data], "real_data_fid": [*real_data.values()]}
    folder.write_arrays("fid_by_steps", **columns, **reference)
    samples = class_histogram(probabilities_of[max(probabilities_of)])
    counts = {"samples": samples, "real": class_histogram(test_probabilities)}
    folder.write_arrays("class_histogram", names=np.array(extractor.classes), **counts)
    metrics = {name: float(value) for name, value in metrics.items()}
    return metrics | {"classifier_accuracy": extractor.accuracy}


def _samples(model, params, options, key, count, folder, bar):
    """Returns samples as uint8; saves them at intervals, so that interrupted sampling resumes."""
    steps = options.sampler.sampler_steps
    name = f"samples_{options.sampler.sampler}_{steps}"
    digest = _digest(model, params, options, key)
    images = _saved_samples(folder, name, digest, model.shape)[:count]
    if len(images):
        print(f"{name}: resuming after {len(images)} samples", file=sys.stderr)
        bar.total -= len(images) * steps
        bar.refresh()
    block = max(1, SAVE_EVERY // (steps * diffusion_samples.CHUNK)) * diffusion_samples.CHUNK
    while len(images) < count:
        start = len(images)
        stop = min(start + block, count)
        new = as_bytes(diffusion_samples.sample_images(model, params, options, key, stop, start))
        images = np.concatenate([images, new]) if start else new
        folder.write_sample(name, {"images": images, "digest": np.array(digest)})
        bar.update(len(new) * steps)
    return images


def _saved_samples(folder, name, digest, shape):
    """Returns the saved samples of the same model and options; empty if there are none."""
    for path in (folder.samples / f"{name}.npz", folder.arrays(name)):  # the latter in old runs
        with contextlib.suppress(UserError):  # missing or damaged file
            arrays = folder.read_arrays(path)
            images = arrays.get("images", np.empty(0))
            same = np.array_equal(arrays.get("digest"), digest)
            if same and images.dtype == np.uint8 and images.shape[1:] == shape:
                return images
    return np.empty(0, np.uint8)


def _digest(model, params, options, key):
    """Returns a digest of everything that the samples depend on, except their index."""
    # The samples do not depend on --num_samples.
    options = dataclasses.replace(options, num_samples=1)
    digest = hashlib.sha256(repr((model.config, model.diffusion, model.shape, options)).encode())
    for leaf in (jax.random.key_data(key), *jax.tree.leaves(params)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def whole_test(data: DataModule) -> Examples:
    """Returns the whole test set; evaluations during training may use a part of it."""
    return data.final_eval_sets().get("whole_test", data.eval_sets["test"])


def write_neighbors(images: np.ndarray, data: DataModule, folder: RunFolder) -> dict[str, float]:
    """Writes the arrays `neighbors`, the nearest training images; returns median distances.

    The samples `images [at least 8, height, width, channels]` are in [-1, 1].
    """
    samples, train = as_bytes(images[:NEIGHBORS]), data.train.arrays["images"]
    test = data.eval_sets["test"].arrays["images"][:200]
    indices, distances = nearest_neighbors(samples, train)
    _, real_distances = nearest_neighbors(test, train)
    pairs = {"samples": samples / 255, "nearest": train[indices] / 255}
    folder.write_arrays("neighbors", **pairs, distances=distances, real_distances=real_distances)
    return {
        "nearest_to_sample": float(np.median(distances)),
        "nearest_to_test_image": float(np.median(real_distances)),
    }
