"""A study of attention: a worked example, a mini encoder, depth, and the number of heads.

Scaled dot-product, multi-head and cross-attention with all intermediate values; an encoder of ten
toy sentences; deep stacks with and without residual connections and LayerNorm; a lookup task that
needs several heads. Nothing is downloaded, and the report has a figure for each.

Source    Vaswani et al. 2017; an unpublished course write-up of attention and the encoder
Command   python -m experiments.attention --platform=cpu
Expect    quick: 70 seconds on two cores; deep stacks need residual connections and LayerNorm
"""

import dataclasses

from jaxlabs.analysis import attention_demo
from jaxlabs.config import ArgumentError, positive, setting
from jaxlabs.labs.attention import attention_depth, attention_heads, mini_encoder, plots
from jaxlabs.models.model_config import check_heads
from jaxlabs.report import attention_plots
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.lab import Study, StudyResult
from jaxlabs.training.run_config import CommonConfig

HEAD_DIMS = tuple(2**power for power in range(2, 11))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttentionRunConfig(CommonConfig):
    """Settings of the demonstrations and of the two experiments."""

    attention_sentence: str = setting(
        mini_encoder.SENTENCES[0],
        "sentence of the mini encoder's attention maps",
        aliases=("sentence",),
    )
    embed_dim: int = positive(
        16, "embedding size of the mini encoder", maximum=4096, aliases=("width",)
    )
    num_heads: int = positive(
        4, "attention heads of the mini encoder; a divisor of embed_dim", aliases=("heads",)
    )
    encoder_steps: int = positive(
        300, "training steps of the mini encoder (masked words)", maximum=1_000_000
    )
    max_depth: int = positive(
        16, "maximum depth; depths are the powers of 2 up to it", maximum=1024
    )
    depth_steps: int = positive(200, "training steps per depth", maximum=1_000_000)
    max_heads: int = positive(
        8,
        "maximum number of heads; numbers are the powers of 2 up to it",
        maximum=attention_heads.EMBED_DIM,
    )
    heads_steps: int = positive(300, "training steps per number of heads", maximum=1_000_000)
    seeds: int = positive(3, "runs per configuration of both experiments", maximum=10_000)

    def check(self) -> None:
        super().check()
        check_heads(self.embed_dim, self.num_heads)
        if not mini_encoder.words_of(self.attention_sentence):
            raise ArgumentError(
                "attention_sentence",
                f"{self.attention_sentence!r} is not accepted; at least one word",
            )


PRESETS = {
    "quick": {},
    "best": {
        "seeds": 8,
        "depth_steps": 600,
        "heads_steps": 600,
    },
}


def measure(config: AttentionRunConfig, folder: RunFolder) -> StudyResult:
    """Runs the demonstrations and both experiments."""
    step = attention_demo.scaled_dot_product(config.seed)
    scaling = attention_demo.scaling_study(HEAD_DIMS, config.seed)
    encoder = mini_encoder.train_and_show(
        config.attention_sentence,
        embed_dim=config.embed_dim,
        num_heads=config.num_heads,
        steps=config.encoder_steps,
        seed=config.seed,
    )
    seeds = config.seeds_from(config.seeds)
    depths, counts = _powers_of_two(config.max_depth), _powers_of_two(config.max_heads)
    depth = attention_depth.depth_study(depths, seeds, config.depth_steps)
    heads = attention_heads.heads_study(counts, seeds, config.heads_steps)
    folder.write_arrays("scaled_dot_product", **step)
    folder.write_arrays("attention_scaling", **scaling)
    folder.write_arrays("attention_maps", **encoder.maps)
    folder.write_arrays("self_and_cross_attention", **encoder.heads)
    folder.write_arrays("attention_depth", **depth)
    folder.write_arrays("attention_heads", **heads)
    metrics = attention_demo.metrics(scaling) | encoder.metrics
    metrics |= attention_depth.metrics(depth) | attention_heads.metrics(heads)
    metrics = {name: float(value) for name, value in metrics.items()}
    table = "\n".join(f"{name} {value:.4g}" for name, value in metrics.items())
    text = [attention_demo.format_arrays(step, attention_demo.STEP), encoder.text, table]
    return StudyResult(metrics, "\n\n".join(text))


def _powers_of_two(maximum: int) -> list[int]:
    return [2**power for power in range(maximum.bit_length())]


STUDY = Study(
    name="attention",
    description=__doc__,
    config_class=AttentionRunConfig,
    presets=PRESETS,
    measure=measure,
    plots={
        "scaled_dot_product": plots.scaled_dot_product,
        "attention_scaling": plots.scaling,
        "attention_maps": attention_plots.attention,
        "self_and_cross_attention": plots.self_and_cross_attention,
        "attention_depth": plots.depth,
        "attention_heads": plots.heads,
    },
    main_metrics=(
        "final_loss_residual_and_layernorm_16_blocks",
        "final_loss_neither_16_blocks",
        "lookup_loss_of_1_heads",
        "lookup_loss_of_4_heads",
    ),
)
