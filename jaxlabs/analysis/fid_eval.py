"""How good the samples of a diffusion model are, against how many steps they took."""

import contextlib
import dataclasses
import hashlib
import sys
from typing import Any

import jax
import numpy as np
import tqdm

from jaxlabs.analysis import diffusion_samples
from jaxlabs.analysis.fid import (
    as_bytes,
    class_histogram,
    nearest_pictures,
    quality,
)
from jaxlabs.analysis.feature_extractor import EXPERIMENT, FeatureExtractor, JudgeConfig, open_judge
from jaxlabs.analysis.diffusion_samples import PictureSamplingConfig
from jaxlabs.config import RUNTIME, Config, UserError, group, setting
from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import Data
from jaxlabs.diffusion.samplers import SAMPLERS
from jaxlabs.models.ddpm import UNet
from jaxlabs.run_folder import RunFolder

NEIGHBORS = 8
MANY_STEPS, SHARE_OF_MANY = 100, 5
"""Above so many steps only a fifth of the samples is drawn: a CPU would take hours."""

KEPT_EVERY = 16_000
"""Steps of single pictures after which those that are drawn are written: a minute of a CPU."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PictureQualityConfig(Config):
    """What is measured of samples."""

    fid_samples: int = setting(
        10_000,
        f"samples behind each figure; a fifth above {MANY_STEPS} steps; 0: nothing is measured",
        minimum=0,
        maximum=1_000_000,
        kind=RUNTIME,
        aliases=("quality_samples",),
    )
    fid_steps: str = setting(
        "20",
        "numbers of sampler steps to measure, with commas between them",
        kind=RUNTIME,
        aliases=("quality_steps",),
    )
    fid_samplers: str = setting(
        "dpm_solver",
        f"samplers to measure, with commas between them: {', '.join(SAMPLERS)}",
        kind=RUNTIME,
        aliases=("quality_samplers",),
    )
    judge: JudgeConfig = group(JudgeConfig)

    def check(self) -> None:
        for sampler in self.fid_samplers.split(","):
            if sampler not in SAMPLERS:
                raise UserError(
                    f"--fid_samplers: {sampler!r} is not accepted; of {', '.join(SAMPLERS)}"
                )
        if not self.fid_steps.replace(",", "").isdigit() or 0 in self.steps():
            raise UserError(
                f"--fid_steps: {self.fid_steps!r} is not accepted; whole numbers of at"
                " least 1 with commas between them"
            )

    def steps(self) -> list[int]:
        """Returns the numbers of steps."""
        return [int(steps) for steps in self.fid_steps.split(",") if steps]

    def count(self, steps: int) -> int:
        """Returns how many samples stand behind a figure."""
        return -(-self.fid_samples // (SHARE_OF_MANY if steps > MANY_STEPS else 1))


def load_feature_extractor(
    config: PictureQualityConfig, dataset: dict[str, Any]
) -> FeatureExtractor | None:
    """Returns the classifier, or None where there is none and none was asked for.

    Raises:
      UserError: the one that was asked for is not there or does not fit.
    """
    path = config.judge.fid_classifier
    if path is None or not config.fid_samples:
        return None
    if path == JudgeConfig().fid_classifier and not RunFolder(path).exists():
        return None
    return open_judge(path, dataset)


def measure(
    model: UNet,
    params: Any,
    sampling: PictureSamplingConfig,
    config: PictureQualityConfig,
    data: Data,
    folder: RunFolder,
    key: jax.Array,
) -> dict[str, float]:
    """Returns figures of samples; writes how good which sampler is in how many steps.

    Real training pictures in the role of samples, as many, give the floor of each figure. Samples
    are rounded to the 256 values of a stored picture first.

    Args:
      model: the network.
      params: its parameters.
      sampling: how samples are drawn, but for sampler and steps.
      config: what is measured.
      data: the run's data.
      folder: gets the arrays `sampler_quality`, `class_histogram` and `drawn_<sampler>_<steps>`,
        the samples, which a later call takes where all is as it was.
      key: of all noise.
    """
    judge = load_feature_extractor(config, data.dataset)
    if judge is None:
        if config.fid_samples and config.judge.fid_classifier is not None:
            print(
                f"samples are not measured: no classifier in {config.judge.fid_classifier}; make"
                " one"
                f" with python -m experiments.{EXPERIMENT} --dataset={data.dataset['name']}, then"
                " repeat with --mode=analyze",
                file=sys.stderr,
            )
        return {}
    test = whole_test(data).arrays["images"]
    train = data.train.arrays["images"]
    real, test_probabilities = judge.read(test)
    pairs = [(name, n) for name in config.fid_samplers.split(",") for n in config.steps()]
    work = sum(config.count(steps) * steps for _, steps in pairs)
    rows, made = [], None
    with tqdm.tqdm(
        total=work, desc="samples", unit="step", unit_scale=True, disable=None, file=sys.stderr
    ) as bar:
        for name, steps in pairs:
            sampler = dataclasses.replace(sampling.sampler, sampler=name, sampler_steps=steps)
            how = dataclasses.replace(sampling, sampler=sampler)
            drawn = _drawn(model, params, how, key, config.count(steps), folder, bar)
            features, probabilities = judge.read(drawn)
            figures = quality(real, features, probabilities)
            rows.append({"sampler": name, "steps": steps, "count": len(drawn)} | figures)
            made = probabilities if made is None or len(probabilities) > len(made) else made

    floors = {}
    for count in sorted({row["count"] for row in rows}):
        places = np.random.default_rng(0).permutation(len(train))[:count]
        floors[count] = quality(real, *judge.read(train[places]))
    columns = {name: np.array([row[name] for row in rows]) for name in rows[0]}
    floor_columns = {
        "floor_count": np.array(list(floors)),
        "floor_frechet": np.array([floor["frechet"] for floor in floors.values()]),
    }
    folder.write_arrays("sampler_quality", **columns, **floor_columns)
    folder.write_arrays(
        "class_histogram",
        names=np.array(judge.classes),
        samples=class_histogram(made),
        real=class_histogram(test_probabilities),
    )
    metrics = {
        f"{row['sampler']}_{row['steps']}_{figure}": float(row[figure])
        for row in rows
        for figure in quality_figures(row)
    }
    metrics |= {
        f"floor_{count}_{name}": value
        for count, floor in floors.items()
        for name, value in floor.items()
    }
    return metrics | {"judge_accuracy": judge.accuracy}


def _drawn(
    model: UNet,
    params: Any,
    how: PictureSamplingConfig,
    key: jax.Array,
    count: int,
    folder: RunFolder,
    bar: tqdm.tqdm,
) -> np.ndarray:
    """Returns samples as bytes, kept in the folder as they come: a thousand steps take hours."""
    steps = how.sampler.sampler_steps
    name = f"drawn_{how.sampler.sampler}_{steps}"
    drawn_by = _identity(model, params, how, key)
    pictures = _kept(folder, name, drawn_by, model.shape)[:count]
    if len(pictures):
        print(f"{name}: {len(pictures)} samples were drawn before", file=sys.stderr)
        bar.total -= len(pictures) * steps  # the bar shows what is still to be drawn
        bar.refresh()
    block = max(1, KEPT_EVERY // (steps * diffusion_samples.CHUNK)) * diffusion_samples.CHUNK
    while len(pictures) < count:
        there = len(pictures)
        upto = min(there + block, count)
        new = as_bytes(diffusion_samples.draw(model, params, how, key, upto, there))
        pictures = np.concatenate([pictures, new]) if there else new
        folder.write_arrays(name, pictures=pictures, drawn_by=np.array(drawn_by))
        bar.update(len(new) * steps)
    return pictures


def _kept(folder: RunFolder, name: str, drawn_by: str, shape: tuple[int, ...]) -> np.ndarray:
    """Returns the samples that an earlier sitting left, if it drew them in the same way."""
    with contextlib.suppress(UserError):  # none, or a damaged one
        kept = folder.read_arrays(folder.arrays(name))
        pictures = kept.get("pictures", np.empty(0))
        same = np.array_equal(kept.get("drawn_by"), drawn_by)
        if same and pictures.dtype == np.uint8 and pictures.shape[1:] == shape:
            return pictures
    return np.empty(0, np.uint8)


def _identity(model: UNet, params: Any, how: PictureSamplingConfig, key: jax.Array) -> str:
    """Returns a digest of all that a sample depends on, but for its row."""
    # How many samples the run itself shows changes none of these.
    how = dataclasses.replace(how, num_samples=1)
    digest = hashlib.sha256(repr((model.config, model.diffusion, model.shape, how)).encode())
    for leaf in (jax.random.key_data(key), *jax.tree.leaves(params)):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def quality_figures(row: dict[str, Any]) -> list[str]:
    """Returns the names of the figures in a row."""
    return [name for name in row if name not in ("sampler", "steps", "count")]


def whole_test(data: Data) -> Examples:
    """Returns all test pictures, of which evaluations during training may read only some."""
    return data.final_eval_sets().get("whole_test", data.evaluations["test"])


def write_neighbors(pictures: np.ndarray, data: Data, folder: RunFolder) -> dict[str, float]:
    """Writes the training pictures nearest to some samples; returns how near they are.

    Args:
      pictures: [at least 8, height, width, channels] samples in [-1, 1].
      data: the run's data.
      folder: gets the array `neighbors`.
    """
    made, train = as_bytes(pictures[:NEIGHBORS]), data.train.arrays["images"]
    test = data.evaluations["test"].arrays["images"][:200]
    places, distances = nearest_pictures(made, train)
    _, real_distances = nearest_pictures(test, train)
    folder.write_arrays(
        "neighbors",
        samples=made / 255,
        nearest=train[places] / 255,
        distances=distances,
        real_distances=real_distances,
    )
    return {
        "nearest_to_sample": float(np.median(distances)),
        "nearest_to_test_picture": float(np.median(real_distances)),
    }
