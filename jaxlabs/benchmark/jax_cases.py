"""JAX workloads of the benchmark: training steps and samplers of the labs.

Every function is called inside a worker and returns `Work`. Batches are random: the time depends on
shapes, not on values. The last argument is the matmul precision, see `jaxlabs.layers.matmul`.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.benchmark.worker import Work
from jaxlabs.data.batches import ContiguousStreams, Examples, TokenStream
from jaxlabs.data.dataset import DataModule
from jaxlabs.diffusion.samplers import SamplerConfig
from jaxlabs.labs.ddpm.diffusion_samples import ImageSamplingConfig, sample_images
from jaxlabs.layers.cpu.masked_attention import masked_attention
from jaxlabs.layers.masks import AttentionMask
from jaxlabs.models import transformer_lm
from jaxlabs.training import devices
from jaxlabs.training.advance import Advance, step_inputs
from jaxlabs.training.initial_state import initial_state
from jaxlabs.training.matmul_flops import matmul_flops
from jaxlabs.training.precision import (
    DTYPE_SETTING,
    SETTING,
    resolve_precision,
    with_precision,
)
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.state import TrainState
from jaxlabs.training.task import Task

BuildTask = Callable[[Any, Mapping[str, Any]], Task]


class Setup(NamedTuple):
    """Settings of a lab, the function that builds its task, and what that needs of the data."""

    config: RunConfig
    build_task: BuildTask
    data_spec: Mapping[str, Any]


BACKWARD = 2
"""FLOPs of the backward pass over those of the forward pass: two matmuls for each matmul."""

MATMUL = (2048, 384, 1536)
"""Rows, inputs and outputs of the matmul for the peak rate: a feed-forward layer of a GPT."""


def matmul(platform: str, precision: str) -> Work:
    """Multiplies two matrices, stored in the dtype of the precision."""
    devices.start(platform)
    rows, inputs, outputs = MATMUL
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    chosen = jax.lax.Precision.HIGHEST if precision == "highest" else None
    left, right = (
        jnp.asarray(np.random.default_rng(0).standard_normal(shape), dtype)
        for shape in ((rows, inputs), (inputs, outputs))
    )

    @jax.jit
    def product(left, right):
        return jnp.dot(left, right, precision=chosen, preferred_element_type=jnp.float32)

    flops = 2.0 * rows * inputs * outputs
    return Work(lambda: jax.block_until_ready(product(left, right)), flops=flops)


def training(setup: Setup, make_dataset: Callable[[], Any], precision: str) -> Work:
    """Runs training steps like a run: batch, loss, gradients, clipping, optimizer.

    Several steps run in one compiled call, as in a run.
    """
    config, placement, task, state = _build(setup, precision)
    dataset, latest = make_dataset(), {"state": state}
    advance = Advance(task, config, placement, dataset)
    flops = (1 + BACKWARD) * _forward_flops(task, config, dataset, state)

    def steps(count):
        state = latest["state"]
        latest["state"], log = advance(state, int(state.step) + count)
        latest["loss"] = float(log["loss"][-1])

    return Work(
        functools.partial(steps, 1),
        repeat=steps,
        flops=flops,
        extra_metrics=lambda: {"loss": latest["loss"]} | _resolved_precision(config),
    )


def _forward_flops(task: Task, config: RunConfig, dataset: Any, state: TrainState) -> float:
    def total(params, dataset):
        batch, key = step_inputs(dataset, config.seed, 0, config.batch_size)
        variables, carry = state.variables(params), state.carry
        return task.loss(task.model, variables, batch, key, train=True, carry=carry).loss_sum

    return matmul_flops(total, state.params, dataset)


def text_sampling(setup: Setup, batch_size: int, tokens: int, precision: str) -> Work:
    """Samples new tokens at temperature 1 from prompts of one token."""
    config, _, task, state = _build(setup, precision)
    prompts, lengths = jnp.zeros((batch_size, 1), jnp.int32), jnp.ones(batch_size, jnp.int32)
    decoder = transformer_lm.TransformerStepper(task.model)
    carry = jax.eval_shape(lambda: decoder.init_carry(batch_size))
    inputs = jax.ShapeDtypeStruct((batch_size,), jnp.int32)
    flops = matmul_flops(decoder.step, state.params, carry, inputs)

    def run():
        inputs = state.params, prompts, lengths, keys.root(0)
        jax.block_until_ready(transformer_lm.sample(task.model, *inputs, max_new_tokens=tokens)[0])

    metrics = functools.partial(_resolved_precision, config)
    return Work(run, units=batch_size * tokens, flops=flops / batch_size, extra_metrics=metrics)


def image_sampling(setup: Setup, batch_size: int, steps: int, precision: str) -> Work:
    """Runs ancestral sampling with all reverse steps in each call."""
    config, _, task, state = _build(setup, precision)
    params, model = state.params, task.model
    x, t = jnp.zeros((batch_size, *model.shape)), jnp.zeros(batch_size, jnp.int32)
    flops = matmul_flops(lambda params: model.apply({"params": params}, x, t), params)
    sampling = ImageSamplingConfig(sampler=SamplerConfig(sampler_steps=steps))

    def run():
        sample_images(model, params, sampling, keys.root(0), count=batch_size)

    metrics = functools.partial(_resolved_precision, config)
    return Work(run, units=steps, flops=flops, extra_metrics=metrics)


def attention(
    platform: str, num_heads: int, head_dim: int, length: int, window: int | None, precision: str
) -> Work:
    """Runs causal attention, sliding-window or full, forward + backward.

    The operation count is that of the visible scores (`window`, or on average half of `length`, per
    query), without the masked ones that an implementation also computes.
    """
    devices.start(platform)
    sample_normal = np.random.default_rng(0).standard_normal
    shape = (1, num_heads, length, head_dim)
    inputs = [jnp.asarray(sample_normal(shape), jnp.float32) for _ in range(3)]

    @jax.jit
    def step(query, key, value):
        def attend(query, key, value):
            mask = AttentionMask(window=window)
            return masked_attention(query, key, value, mask, precision=precision)

        output, vjp = jax.vjp(attend, query, key, value)
        return output, vjp(jnp.ones_like(output))

    return Work(
        lambda: jax.block_until_ready(step(*inputs)),
        flops=attention_flops(num_heads, head_dim, length, window),
    )


def attention_flops(num_heads: int, head_dim: int, length: int, window: int | None) -> float:
    """Returns the operations of causal attention, forward + backward, see `attention`."""
    visible = np.minimum(np.arange(1, length + 1), length if window is None else window)
    return float((1 + BACKWARD) * 2 * 2 * num_heads * head_dim * visible.sum())


def full_batch_training(
    setup: Setup, load_data: Callable[[Any], DataModule], precision: str
) -> Work:
    """Trains to convergence with optax's L-BFGS."""
    config = dataclasses.replace(setup.config, steps_per_call=setup.config.steps)
    config, placement, task, initial = _build(setup._replace(config=config), precision)
    data = load_data(config)
    jax.block_until_ready(initial)
    advance, metrics = Advance(task, config, placement, data.train), {}

    def run():
        state, log = advance(jax.tree.map(jnp.copy, initial), config.steps)
        metrics.update(cost=float(log["loss"][-1]), iterations=int(state.step))

    return Work(run, extra_metrics=lambda: metrics)


def full_batch_gradient(
    setup: Setup, load_data: Callable[[Any], DataModule], precision: str
) -> Work:
    """Computes the full-batch cost and its gradient once."""
    config, placement, task, state = _build(setup, precision)
    dataset = placement.replicate(load_data(config).train)

    def cost(params, dataset):
        batch, key = step_inputs(dataset, config.seed, 0, dataset.count)
        output = task.loss(task.model, state.variables(params), batch, key, train=True)
        return output.loss_sum / dataset.count

    cost_and_gradient = jax.jit(jax.value_and_grad(cost))
    return Work(
        lambda: jax.block_until_ready(cost_and_gradient(state.params, dataset)),
        flops=(1 + BACKWARD) * matmul_flops(cost, state.params, dataset),
    )


def _build(
    setup: Setup, precision: str
) -> tuple[RunConfig, devices.MeshSharding, Task, TrainState]:
    """Returns the config with its precision resolved, one device, task and state, as in a run.

    Activations are float32, but on accelerators those of `bfloat16` are bfloat16, as PyTorch's.
    """
    devices.start(setup.config.platform)
    narrow = precision == "bfloat16" and jax.default_backend() != "cpu"
    dtype = "bfloat16" if narrow else "float32"
    config = with_precision(setup.config, {SETTING: precision, DTYPE_SETTING: dtype})
    config = with_precision(config, {SETTING: resolve_precision(config, None)})
    placement = devices.data_parallel(jax.devices()[:1])
    task = setup.build_task(config, setup.data_spec)
    return config, placement, task, initial_state(task, config, placement)


def _resolved_precision(config: RunConfig) -> dict[str, float]:
    """Returns whether matmuls have bfloat16 inputs, which are used only where faster."""
    return {"bfloat16_matmuls": float(config.model.matmul_precision == "bfloat16")}


# Random data in the shapes of the labs.


def random_text(vocab_size: int, context_length: int) -> TokenStream:
    """Returns a long text of uniformly random tokens."""
    return TokenStream(_tokens(vocab_size, 100_000), context_length)


def random_streams(vocab_size: int, context_length: int) -> ContiguousStreams:
    """Returns the same text as contiguous streams across batches."""
    return ContiguousStreams(_tokens(vocab_size, 1_000_000), context_length)


def random_sentences(vocab_size: int, context_length: int, classes: int) -> Examples:
    """Returns sentences of random length, padded to the context length (token 0)."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, vocab_size, (2048, context_length), np.int32)
    lengths = rng.integers(context_length // 4, context_length + 1, len(tokens))
    tokens[np.arange(context_length)[None, :] >= lengths[:, None]] = 0
    return Examples({"inputs": tokens, "labels": rng.integers(0, classes, len(tokens), np.int32)})


def random_images(shape: tuple[int, int, int]) -> Examples:
    """Returns images of noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1024, *shape), np.uint8)
    return Examples({"images": images, "labels": np.zeros(len(images), np.int32)})


@functools.cache
def _tokens(vocab_size: int, count: int) -> np.ndarray:
    dtype = np.uint8 if vocab_size <= 256 else np.uint16
    return np.random.default_rng(0).integers(0, vocab_size, count).astype(dtype)
