"""Our side of the benchmark: steps and samplers as the labs run them, ready to be timed.

Every function is called inside a worker and returns `Work`. Batches are drawn at random: what is
timed depends on shapes and not on what the numbers say. The last argument is the precision of the
dots, see `jaxlabs.layers.matmul`.
"""

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs import keys
from jaxlabs.analysis.benchmark.worker import Work
from jaxlabs.analysis.diffusion_samples import PictureSamplingConfig, draw
from jaxlabs.analysis.dot_flops import BACKWARD, dot_flops
from jaxlabs.data.batches import ContiguousStreams, Examples, TokenStream, batch_at
from jaxlabs.data.dataset import Data
from jaxlabs.diffusion.samplers import SamplerConfig
from jaxlabs.layers.local_attention import AttentionMask
from jaxlabs.models import transformer_lm
from jaxlabs.training import devices
from jaxlabs.training.loop import initial_state, next_chunk_size
from jaxlabs.training.precision import settle, with_precision
from jaxlabs.training.run_config import RunConfig
from jaxlabs.training.run_steps import build_multi_step
from jaxlabs.training.scipy_solver import solve
from jaxlabs.training.task import Task

BuildTask = Callable[[Any, Mapping[str, Any]], Task]

MATMUL = (2048, 384, 1536)
"""Rows, inputs and outputs of the dot whose rate is the limit: a feed-forward layer of a GPT."""


def matmul(platform: str, precision: str) -> Work:
    """Multiplies two matrices that lie there in the dtype that the precision asks for."""
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

    return Work(
        lambda: jax.block_until_ready(product(left, right)), flops=2.0 * rows * inputs * outputs
    )


def training(
    config: RunConfig,
    build_task: BuildTask,
    vocabulary: Mapping[str, Any],
    make_dataset: Callable[[], Any],
    precision: str,
) -> Work:
    """Takes training steps as a run does: batch, loss, gradients, clipping, optimizer.

    Those asked for at once are taken in calls as long as a run's, where there are enough of them.
    """
    config, placement = _start(config, precision)
    task, dataset = build_task(config, vocabulary), placement.replicate(make_dataset())
    run_steps = build_multi_step(task, config, placement)
    loop = {"state": initial_state(task, config, placement), "pace": 1}
    flops = (1 + BACKWARD) * _forward_flops(task, config, dataset, loop["state"])

    def steps(left):
        while left:
            count, start = min(left, loop["pace"], config.steps_per_call), time.perf_counter()
            loop["state"], log = run_steps(loop["state"], dataset, np.int32(count), np.uint32(0))
            loop["loss"] = float(log["loss"][count - 1])
            if count == loop["pace"]:
                loop["pace"] = next_chunk_size(count, time.perf_counter() - start)
            left -= count

    return Work(
        functools.partial(steps, 1),
        repeat=steps,
        flops=flops,
        figures=lambda: {"loss": loop["loss"]} | _settled(config),
    )


def _forward_flops(task: Task, config: RunConfig, dataset: Any, state: Any) -> float:
    def total(params, dataset):
        batch = batch_at(dataset, config.seed, 0, config.batch_size)
        key = keys.stream(config.seed, "step")
        return task.loss(params, batch, key, state, True).total

    return dot_flops(total, state.params, dataset)


def text_sampling(
    config: RunConfig,
    build_task: BuildTask,
    vocabulary: Mapping[str, Any],
    batch_size: int,
    tokens: int,
    precision: str,
) -> Work:
    """Continues prompts of one token by so many more, drawn at temperature 1."""
    config, placement = _start(config, precision)
    task = build_task(config, vocabulary)
    params = initial_state(task, config, placement).params
    prompts, lengths = jnp.zeros((batch_size, 1), jnp.int32), jnp.ones(batch_size, jnp.int32)
    decoder = transformer_lm.TransformerDecoder(task.model)
    carry = jax.eval_shape(lambda: decoder.init_carry(batch_size))
    flops = dot_flops(decoder.step, params, carry, jax.ShapeDtypeStruct((batch_size,), jnp.int32))

    def run():
        drawn, _ = transformer_lm.sample(
            task.model, params, prompts, lengths, keys.root(0), max_new_tokens=tokens
        )
        jax.block_until_ready(drawn)

    return Work(
        run, units=batch_size * tokens, flops=flops / batch_size, figures=lambda: _settled(config)
    )


def picture_sampling(
    config: RunConfig,
    build_task: BuildTask,
    vocabulary: Mapping[str, Any],
    batch_size: int,
    steps: int,
    precision: str,
) -> Work:
    """Takes steps of ancestral sampling as a run's samples do, all of them in each call."""
    config, placement = _start(config, precision)
    task = build_task(config, vocabulary)
    params, model = initial_state(task, config, placement).params, task.model
    x, t = jnp.zeros((batch_size, *model.shape)), jnp.zeros(batch_size, jnp.int32)
    flops = dot_flops(lambda params: model.apply({"params": params}, x, t), params)
    sampling = PictureSamplingConfig(sampler=SamplerConfig(sampler_steps=steps))

    def run():
        draw(model, params, sampling, keys.root(0), count=batch_size)

    return Work(run, units=steps, flops=flops, figures=lambda: _settled(config))


def attention(
    platform: str, num_heads: int, head_dim: int, length: int, window: int | None, precision: str
) -> Work:
    """Attends causally, through a window or to all before, and differentiates by all inputs.

    Operations are those of the scores that are looked at, `window` or on average half of `length`
    for each query, whatever a form computes beyond them.
    """
    devices.start(platform)
    draw_normal = np.random.default_rng(0).standard_normal
    shape = (1, num_heads, length, head_dim)
    given = [jnp.asarray(draw_normal(shape), jnp.float32) for _ in range(3)]

    @jax.jit
    def step(query, key, value):
        def attend(query, key, value):
            return AttentionMask(window).attend(query, key, value, precision=precision)

        output, back = jax.vjp(attend, query, key, value)
        return output, back(jnp.ones_like(output))

    return Work(
        lambda: jax.block_until_ready(step(*given)),
        flops=attention_flops(num_heads, head_dim, length, window),
    )


def attention_flops(num_heads: int, head_dim: int, length: int, window: int | None) -> float:
    """Returns the operations of causal attention forth and back, see `attention`."""
    seen = np.minimum(np.arange(1, length + 1), length if window is None else window)
    return float((1 + BACKWARD) * 2 * 2 * num_heads * head_dim * seen.sum())


def whole_set_training(
    config: RunConfig, build_task: BuildTask, load_data: Callable[[Any], Data], precision: str
) -> Work:
    """Trains from the start until converged, by the optimizer that the configuration names."""
    config = dataclasses.replace(config, steps_per_call=config.steps)
    config, placement = _start(config, precision)
    task, data = build_task(config, {}), load_data(config)
    initial = jax.block_until_ready(initial_state(task, config, placement))
    dataset, ended = placement.replicate(data.train), {}
    run_steps = build_multi_step(task, config, placement)

    def with_optax():
        state = jax.tree.map(jnp.copy, initial)
        state, log = run_steps(state, dataset, np.int32(config.steps), np.uint32(config.seed))
        steps = int(state.step)
        ended.update(cost=float(log["loss"][steps - 1]), iterations=steps)

    def with_scipy():
        costs = []
        solve(
            task, initial, data.train, config.seed, config.steps, lambda _, c, __: costs.append(c)
        )
        ended.update(cost=float(costs[-1]), iterations=len(costs))

    way = with_scipy if config.optimization.optimizer == "scipy" else with_optax
    return Work(way, figures=lambda: ended)


def whole_set_gradient(
    config: RunConfig, build_task: BuildTask, load_data: Callable[[Any], Data], precision: str
) -> Work:
    """Computes the cost of the whole set and its gradient once."""
    config, placement = _start(config, precision)
    task, data = build_task(config, {}), load_data(config)
    state, dataset = initial_state(task, config, placement), placement.replicate(data.train)

    def cost(params, dataset):
        batch = batch_at(dataset, config.seed, 0, dataset.count)
        return task.loss(params, batch, keys.root(0), state, True).total / dataset.count

    both = jax.jit(jax.value_and_grad(cost))
    return Work(
        lambda: jax.block_until_ready(both(state.params, dataset)),
        flops=(1 + BACKWARD) * dot_flops(cost, state.params, dataset),
    )


def _start(config: RunConfig, precision: str) -> tuple[RunConfig, devices.DataParallel]:
    devices.start(config.platform)
    config = with_precision(config, precision)
    config = with_precision(config, settle(config, None))  # as a run does when it starts
    return config, devices.data_parallel(jax.devices()[:1])


def _settled(config: RunConfig) -> dict[str, float]:
    """Says whether dots have bfloat16 inputs: `fast` means it only where that is faster."""
    return {"bfloat16_dots": float(config.model.matmul_precision == "bfloat16")}


# Data of the shapes that the labs read.


def random_text(vocabulary_size: int, context_length: int) -> TokenStream:
    """Returns a long text of tokens drawn uniformly."""
    return TokenStream(_tokens(vocabulary_size, 100_000), context_length)


def random_streams(vocabulary_size: int, context_length: int) -> ContiguousStreams:
    """Returns the same text, to be read by rows that go on from batch to batch."""
    return ContiguousStreams(_tokens(vocabulary_size, 1_000_000), context_length)


def random_sentences(vocabulary_size: int, context_length: int, classes: int) -> Examples:
    """Returns sentences of all lengths up to the context, filled up with padding (token 0)."""
    random = np.random.default_rng(0)
    tokens = random.integers(2, vocabulary_size, (2048, context_length), np.int32)
    lengths = random.integers(context_length // 4, context_length + 1, len(tokens))
    tokens[np.arange(context_length)[None, :] >= lengths[:, None]] = 0
    return Examples(
        {"inputs": tokens, "labels": random.integers(0, classes, len(tokens), np.int32)}
    )


def random_pictures(shape: tuple[int, int, int]) -> Examples:
    """Returns pictures of noise."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (1024, *shape), np.uint8)
    return Examples({"images": images, "labels": np.zeros(len(images), np.int32)})


@functools.cache
def _tokens(vocabulary_size: int, count: int) -> np.ndarray:
    dtype = np.uint8 if vocabulary_size <= 256 else np.uint16
    return np.random.default_rng(0).integers(0, vocabulary_size, count).astype(dtype)
