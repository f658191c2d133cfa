"""Attention from the inside: one step in numbers, a mini encoder, and two questions by experiment.

Shows scaled dot-product, multi-head and cross-attention with all of their numbers; an encoder of
ten toy sentences; what residual connections and LayerNorm do for depth; and what many heads do that
one cannot. Nothing is downloaded, and the report has a picture for each.

Source    Vaswani et al. 2017; an unpublished course write-up of attention and the encoder
Command   python -m experiments.attention --platform=cpu
Expect    quick: 70 seconds on two cores; deep stacks train only with both, 4 heads beat 1
"""

import dataclasses
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import tqdm

from jaxlabs import command
from jaxlabs.analysis import attention_demo, attention_depth, attention_heads, mini_encoder
from jaxlabs.config import UserError, setting
from jaxlabs.lab import Study, StudyResult
from jaxlabs.run_folder import RunFolder
from jaxlabs.training.run_config import CommonConfig

DIMS = tuple(2**power for power in range(2, 11))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionConfig(CommonConfig):
    """Sizes of the demonstrations and of the two experiments."""

    attention_sentence: str = setting(
        mini_encoder.SENTENCES[0], "what the mini encoder shows", aliases=("sentence",)
    )
    embed_dim: int = setting(
        16, "size of the mini encoder's word vectors", minimum=1, maximum=4096, aliases=("width",)
    )
    num_heads: int = setting(
        4, "its attention heads; they divide the width", minimum=1, aliases=("heads",)
    )
    encoder_steps: int = setting(300, "of training it to fill gaps", minimum=1, maximum=1_000_000)
    max_depth: int = setting(
        16, "deepest stack; depths are the powers of 2 up to it", minimum=1, maximum=1024
    )
    depth_steps: int = setting(200, "of training each stack", minimum=1, maximum=1_000_000)
    max_heads: int = setting(
        8, "most heads; they are the powers of 2 up to it", minimum=1, maximum=attention_heads.EMBED_DIM
    )
    heads_steps: int = setting(
        300, "of training each number of heads", minimum=1, maximum=1_000_000
    )
    seeds: int = setting(3, "runs of each kind in both experiments", minimum=1, maximum=10_000)

    def check(self) -> None:
        super().check()
        if self.embed_dim % self.num_heads:
            raise UserError(
                f"--num_heads: {self.num_heads} does not divide --embed_dim {self.embed_dim}; a"
                " divisor"
            )
        if not mini_encoder.words_of(self.attention_sentence):
            raise UserError(
                f"--attention_sentence: {self.attention_sentence!r} is not accepted; at least one"
                " word"
            )


PRESETS = {"quick": {}, "best": {"seeds": 8, "depth_steps": 600, "heads_steps": 600}}


def measure(config: AttentionConfig, folder: RunFolder) -> StudyResult:
    """Carries out the demonstrations and both experiments."""
    step = attention_demo.scaled_dot_product(config.seed)
    scaling = attention_demo.scaling_study(DIMS, config.seed)
    reading = mini_encoder.train_and_show(
        config.attention_sentence,
        embed_dim=config.embed_dim,
        num_heads=config.num_heads,
        steps=config.encoder_steps,
        seed=config.seed,
    )
    seeds = config.seeds_from(config.seeds)
    depth = attention_depth.depth_study(
        _powers_of_two(config.max_depth), seeds, config.depth_steps, _progress
    )
    heads = attention_heads.heads_study(
        _powers_of_two(config.max_heads), seeds, config.heads_steps, _progress
    )
    folder.write_arrays("scaled_dot_product", **step)
    folder.write_arrays("attention_scaling", **scaling)
    folder.write_arrays("attention_maps", **reading.maps)
    folder.write_arrays("heads_and_memory", **reading.heads)
    folder.write_arrays("attention_depth", **depth)
    folder.write_arrays("attention_heads", **heads)
    metrics = attention_demo.metrics(scaling) | reading.metrics
    metrics |= attention_depth.metrics(depth) | attention_heads.metrics(heads)
    metrics = {name: float(value) for name, value in metrics.items()}
    table = "\n".join(f"{name} {value:.4g}" for name, value in metrics.items())
    text = [attention_demo.format_arrays(step, attention_demo.STEP), reading.text, table]
    return StudyResult(metrics, "\n\n".join(text))


def _powers_of_two(largest: int) -> list[int]:
    return [2**power for power in range(largest.bit_length())]


def _progress(items: Sequence[Any], name: str) -> Iterable[Any]:
    return tqdm.tqdm(items, desc=name, unit=name, disable=None, file=sys.stderr)


STUDY = Study(
    name="attention",
    description=__doc__,
    config_class=AttentionConfig,
    presets=PRESETS,
    measure=measure,
)

if __name__ == "__main__":
    command.main(STUDY)
