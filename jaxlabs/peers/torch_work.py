"""PyTorch's side of the benchmark: the same work as in `jaxlabs.analysis.benchmark.jax_cases`.

Every function is called inside a worker and returns `Work`. Models are the twins of this folder,
made of PyTorch's own layers; sampling is what their users write: a loop over tokens that reads the
whole text again for each (nanoGPT's `generate`), a loop over reverse steps.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxlabs.analysis.benchmark.jax_cases import MATMUL, attention_flops
from jaxlabs.analysis.benchmark.worker import Work
from jaxlabs.data.batches import Examples
from jaxlabs.diffusion.noise_schedules import DiffusionConfig, alphas_cumprod
from jaxlabs.diffusion.samplers import SamplerConfig, coefficients, timesteps
from jaxlabs.peers.torch_training import Mode, build_step
from jaxlabs.training.run_config import RunConfig


def matmul(mode: Mode) -> Work:
    """Multiplies two matrices as a linear layer does."""
    import torch

    rows, inputs, outputs = MATMUL
    dtype = torch.bfloat16 if mode.bfloat16 else torch.float32
    left, right = torch.randn(rows, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
    multiply = torch.nn.functional.linear
    return Work(lambda: multiply(left, right), flops=2.0 * rows * inputs * outputs)


def gpt_training(config: RunConfig, vocabulary_size: int, mode: Mode) -> Work:
    """Takes training steps of a decoder on random tokens."""
    import torch

    from jaxlabs.peers.torch_gpt import build_gpt

    model = config.model.with_vocabulary(vocabulary_size)
    gpt = build_gpt(model)
    tokens = _tokens(vocabulary_size, config.batch_size, model.context_length + 1)

    def loss(gpt: Any) -> torch.Tensor:
        return _cross_entropy(gpt(tokens[:, :-1]), tokens[:, 1:])

    return _training(build_step(gpt, loss, config.optimization, mode))


def char_rnn_training(config: RunConfig, vocabulary_size: int, mode: Mode) -> Work:
    """Takes training steps of a recurrent model whose state goes on from step to step."""
    import torch
    from torch.utils import _pytree

    from jaxlabs.peers.torch_char_rnn import build_char_rnn

    model = config.model.with_vocabulary(vocabulary_size)
    network = build_char_rnn(model)
    tokens = _tokens(vocabulary_size, config.batch_size, model.context_length + 1)
    carry = {"state": None}

    def loss(network: Any) -> torch.Tensor:
        logits, state = network(tokens[:, :-1], carry["state"])
        carry["state"] = _pytree.tree_map(torch.Tensor.detach, state)
        return _cross_entropy(logits, tokens[:, 1:])

    return _training(build_step(network, loss, config.optimization, mode))


def classifier_training(
    config: RunConfig, vocabulary_size: int, make_dataset: Callable[[], Examples], mode: Mode
) -> Work:
    """Takes training steps of a classifier of sentences."""
    import torch

    from jaxlabs.peers.torch_encoder import build_classifier

    arrays = make_dataset().arrays
    tokens, labels = (
        torch.from_numpy(arrays[name][: config.batch_size].astype(np.int64))
        for name in ("inputs", "labels")
    )

    def loss(classifier: Any) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(classifier(tokens).float(), labels)

    classifier = build_classifier(config.model.with_vocabulary(vocabulary_size))
    return _training(build_step(classifier, loss, config.optimization, mode))


def unet_training(config: RunConfig, shape: tuple[int, int, int], mode: Mode) -> Work:
    """Takes training steps of a diffusion model: times and noise are resampled for each."""
    import torch

    unet, images = _unet(config, shape, config.batch_size)
    left = torch.from_numpy(alphas_cumprod(config.diffusion)).float()

    def loss(unet: Any) -> torch.Tensor:
        t = torch.randint(len(left), (config.batch_size,))
        noise = torch.randn_like(images)
        share = left[t][:, None, None, None]
        noisy = share.sqrt() * images + (1 - share).sqrt() * noise
        return torch.nn.functional.mse_loss(unet(noisy, t).float(), noise)

    return _training(build_step(unet, loss, config.optimization, mode))


def image_sampling(
    config: RunConfig, shape: tuple[int, int, int], batch_size: int, steps: int, mode: Mode
) -> Work:
    """Takes steps of ancestral sampling."""
    import torch

    unet, start = _unet(config, shape, batch_size)
    called = mode.ready(unet)
    sampler = SamplerConfig(sampler_steps=steps)
    diffusion: DiffusionConfig = config.diffusion
    factors = zip(*coefficients(diffusion, sampler), strict=True)
    path = list(zip(timesteps(diffusion, sampler).tolist(), factors, strict=True))

    def run() -> None:
        x = start
        with torch.no_grad(), mode.autocast():  # around the loop: leaving it forgets cast weights
            for time, (from_x, from_output, a, b, _, s) in path:
                output = called(x, torch.full((batch_size,), time)).float()
                seen = (from_x * x + from_output * output).clamp(-1, 1)
                x = a * x + b * seen + s * torch.randn_like(x)

    return Work(run, units=steps)


def text_sampling(
    config: RunConfig, vocabulary_size: int, batch_size: int, tokens: int, mode: Mode
) -> Work:
    """Continues prompts of one token, reading all of the text again for every token."""
    import torch

    from jaxlabs.peers.torch_gpt import build_gpt

    gpt = build_gpt(config.model.with_vocabulary(vocabulary_size)).eval()
    called = mode.ready(gpt, dynamic=True)

    def generate(count: int) -> None:
        text = torch.zeros(batch_size, 1, dtype=torch.long)
        with torch.no_grad(), mode.autocast():  # around the loop: leaving it forgets cast weights
            for _ in range(count):
                logits = called(text[:, -config.model.context_length :])[:, -1].float()
                drawn = torch.multinomial(torch.softmax(logits, dim=-1), 1)
                text = torch.cat([text, drawn], dim=1)

    def run() -> None:
        generate(tokens)

    def warm_up() -> None:
        generate(min(tokens, 8))

    return Work(run, units=batch_size * tokens, warm_up=warm_up)


def attention(num_heads: int, head_dim: int, length: int, window: int | None, mode: Mode) -> Work:
    """Attends causally and differentiates; a window is a mask, which PyTorch's function takes."""
    import torch

    shape = (1, num_heads, length, head_dim)
    given = [torch.randn(shape, requires_grad=True) for _ in range(3)]
    band = None
    if window is not None:
        band = torch.ones(length, length, dtype=torch.bool).tril().triu(1 - window)
    attend = mode.ready(torch.nn.functional.scaled_dot_product_attention)

    def run() -> None:
        with mode.autocast():
            output = attend(*given, attn_mask=band, is_causal=band is None)
        torch.autograd.grad(output.sum(), given)

    return Work(run, flops=attention_flops(num_heads, head_dim, length, window))


def _unet(config: RunConfig, shape: tuple[int, int, int], batch_size: int) -> Any:
    """Returns a U-Net and images, both with channels last in memory."""
    import torch

    from jaxlabs.peers.torch_unet import build_unet

    height, width, channels = shape
    unet = build_unet(config.model, channels, config.diffusion.num_timesteps)
    images = torch.rand(batch_size, channels, height, width) * 2 - 1
    return (part.to(memory_format=torch.channels_last) for part in (unet, images))


def _tokens(vocabulary_size: int, rows: int, columns: int) -> Any:
    import torch

    return torch.randint(vocabulary_size, (rows, columns))


def _cross_entropy(logits: Any, targets: Any) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def _training(step: Callable[[], float]) -> Work:
    last = {}

    def run() -> None:
        last["loss"] = step()

    return Work(run, extra_metrics=lambda: last)
