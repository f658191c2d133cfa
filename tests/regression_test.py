"""Upper bounds on the cost of compiled training steps, from XLA's cost analysis, without timing.

The measured costs are listed beside the bounds. The margins cover only other versions of the
compiler (measured: Python 3.11 with jax 0.10, Python 3.12 with jax 0.12). A change that needs more
on purpose raises the bound, with the reason.
"""

import dataclasses
import math
import re

import jax
import numpy as np
import pytest

from jaxlabs.data.batches import ContiguousStreams, Examples, TokenStream, batch_at
from jaxlabs.data.tokenizers import CharTokenizer
from jaxlabs.labs.char_rnn import lab as char_rnn
from jaxlabs.labs.ddpm import lab as ddpm
from jaxlabs.labs.gpt import lab as gpt
from jaxlabs.training.optimizers import build_optimizer
from jaxlabs.training.schedules import build_schedule
from jaxlabs.training.state import create_state

pytestmark = pytest.mark.skipif(jax.default_backend() != "cpu", reason="the bounds are a CPU's")

NEW = jax.__version_info__ >= (0, 11)

LARGE = 2**20
"""Minimum size of a counted copy or transpose, in bytes."""

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8}


@dataclasses.dataclass(frozen=True)
class Cost:
    """Cost of a compiled step; bodies of loops count once.

    Attributes:
      flops: floating-point operations.
      traffic: bytes accessed.
      temporaries: bytes of temporary memory.
      matmuls: dot and convolution instructions.
      copies: copies and transposes of at least 1 MiB.
    """

    flops: float
    traffic: float
    temporaries: int
    matmuls: int
    copies: int


def cost_of(compiled):
    """Returns the `Cost` of a `jax.stages.Compiled`."""
    analysis, text = compiled.cost_analysis(), compiled.as_text()
    return Cost(
        flops=analysis["flops"],
        traffic=analysis["bytes accessed"],
        temporaries=compiled.memory_analysis().temp_size_in_bytes,
        matmuls=len(re.findall(r"= \S+ (?:dot|convolution)\(", text)),
        copies=sum(
            BYTES.get(kind, 4) * math.prod(map(int, filter(None, sizes.split(",")))) >= LARGE
            for kind, sizes in re.findall(r"= (\w+)\[([\d,]*)\]\S* (?:copy|transpose)\(", text)
        ),
    )


def compiled_step(lab, data_spec, dataset, **settings):
    """Compiles the training step of a lab from shapes, without arrays."""
    config = lab.LAB.config_class.from_flat(settings)
    task = lab.build_task(config, data_spec)
    optimization = config.optimization
    tx = build_optimizer(optimization, build_schedule(optimization, config.steps))

    def create(key):
        return create_state(
            task.model,
            task.init(key),
            tx,
            ema_decay=optimization.ema_decay,
            grad_accum_steps=optimization.grad_accum_steps,
            carry=task.init_carry(config.batch_size),
        )

    key = jax.random.key(0)
    batch = jax.eval_shape(lambda data: batch_at(data, 0, 0, config.batch_size), dataset)
    lowered = task.train_step.lower(jax.eval_shape(create, key), batch, key)
    # The default of commands; conftest.py disables fusion emitters where they are optional.
    return lowered.compile({} if NEW else {"xla_cpu_use_fusion_emitters": True})


CHARACTERS = CharTokenizer("".join(map(chr, range(32, 97)))).to_json()
TEXT = np.zeros(20_000, np.uint8)


def gpt_step():
    """The step of the `quick` preset."""
    return compiled_step(gpt, CHARACTERS, TokenStream(TEXT, 128), **gpt.PRESETS["quick"])


def bfloat16_gpt_step():
    """The same with bfloat16 matmuls."""
    preset = gpt.PRESETS["quick"] | {"matmul_precision": "bfloat16"}
    return compiled_step(gpt, CHARACTERS, TokenStream(TEXT, 128), **preset)


def gru_step():
    """The step of the `reference` preset."""
    preset = char_rnn.PRESETS["reference"]
    return compiled_step(char_rnn, CHARACTERS, ContiguousStreams(TEXT, 128), **preset)


def unet_step():
    """The step of the `reference` preset with an eighth of its batch and half of its channels."""
    preset = ddpm.PRESETS["reference"] | {"batch_size": 16, "grad_accum_steps": 1}
    preset |= {"base_channels": 32, "num_groups": 4, "time_embed_dim": 32}
    images = {"images": np.zeros((16, 28, 28, 1), np.uint8), "labels": np.zeros(16, np.int32)}
    return compiled_step(ddpm, {"shape": (28, 28, 1), "classes": []}, Examples(images), **preset)


# Measured with jax 0.10.2, and with 0.12 where that differs:
#   gpt         13.75 GFLOP   1,403 or 1,478 MB   146 MB   459 matmuls   105 or 121 copies
#   gpt, bf16   13.78 GFLOP   1,331 or 1,414 MB   125 MB   459 matmuls    97 or 113 copies
#   gru          4.17 GFLOP     593 or   594 MB   102 MB     9 matmuls   11 copies
#   unet         3.59 GFLOP   1,047 MB             70 MB   225 matmuls    0 copies
# Each query chunk of attention adds matmuls and copies: a layer with 128 tokens in two chunks has 6
# and 10 more than in one, and a step of four such layers takes 0.95 of the time.
BOUNDS = {
    gpt_step: Cost(
        flops=14.0e9, traffic=1.53e9, temporaries=151e6, matmuls=459, copies=121 if NEW else 105
    ),
    bfloat16_gpt_step: Cost(
        flops=14.0e9, traffic=1.47e9, temporaries=130e6, matmuls=459, copies=113 if NEW else 97
    ),
    gru_step: Cost(flops=4.3e9, traffic=0.617e9, temporaries=107e6, matmuls=9, copies=11),
    unet_step: Cost(flops=3.67e9, traffic=1.09e9, temporaries=74e6, matmuls=225, copies=0),
}
"""Upper bounds; those of matmuls and copies are the measured numbers."""


@pytest.mark.slow
@pytest.mark.parametrize("step", BOUNDS, ids=lambda step: step.__name__)
def test_compiled_step_is_within_its_bounds(step):
    cost, bounds = dataclasses.asdict(cost_of(step())), dataclasses.asdict(BOUNDS[step])
    over = {name: (cost[name], bound) for name, bound in bounds.items() if cost[name] > bound}
    assert not over, f"more than the bound (name: found, bound): {over}; all: {cost}"
