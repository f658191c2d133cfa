"""PyTorch cases of the benchmark, equivalent to `jaxlabs.benchmark.jax_cases`.

Every case is built in a worker process. Training and sampling are as in typical PyTorch code:
AdamW, gradient clipping, autocast and `torch.compile`; a loop over tokens without a KV cache
(nanoGPT's `generate`), a loop over reverse steps.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.nn import functional
from torch.utils import _pytree

from jaxlabs.benchmark.jax_cases import MATMUL, attention_flops
from jaxlabs.benchmark.peers.torch_models import GPT, CharRNN, TextClassifier, UNet
from jaxlabs.benchmark.worker import Work
from jaxlabs.data.batches import Examples
from jaxlabs.diffusion.noise_schedules import alphas_cumprod
from jaxlabs.diffusion.samplers import SamplerConfig, coefficients, timesteps
from jaxlabs.training.optimizer_config import OptimizerConfig
from jaxlabs.training.run_config import RunConfig


@dataclasses.dataclass(frozen=True)
class Mode:
    """Execution mode of a PyTorch model."""

    compiled: bool = False  #: whether to use `torch.compile`
    bfloat16: bool = False  #: whether to use bfloat16 by `torch.autocast`; else float32

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Returns the context manager of forward passes."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16)

    def ready(self, module: Any, **options: Any) -> Any:
        """Returns the module, compiled if the mode says so."""
        if not self.compiled:
            return module
        torch._dynamo.config.allow_rnn = True  # otherwise RNNs silently stay eager
        return torch.compile(module, **options)


def matmul(mode: Mode) -> Work:
    """Multiplies two matrices as a linear layer does."""
    rows, inputs, outputs = MATMUL
    dtype = torch.bfloat16 if mode.bfloat16 else torch.float32
    left, right = torch.randn(rows, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
    return Work(lambda: functional.linear(left, right), flops=2.0 * rows * inputs * outputs)


def gpt_training(config: RunConfig, vocab_size: int, mode: Mode) -> Work:
    """Trains a GPT on random tokens."""
    model = config.model.with_vocabulary(vocab_size)
    tokens = torch.randint(vocab_size, (config.batch_size, model.context_length + 1))

    def loss(gpt: Any) -> torch.Tensor:
        return _cross_entropy(gpt(tokens[:, :-1]), tokens[:, 1:])

    return _training(GPT(model), loss, config, mode)


def char_rnn_training(config: RunConfig, vocab_size: int, mode: Mode) -> Work:
    """Trains a recurrent model with stateful truncated BPTT."""
    model = config.model.with_vocabulary(vocab_size)
    tokens = torch.randint(vocab_size, (config.batch_size, model.bptt_length + 1))
    carry = {"state": None}

    def loss(network: Any) -> torch.Tensor:
        logits, state = network(tokens[:, :-1], carry["state"])
        carry["state"] = _pytree.tree_map(torch.Tensor.detach, state)
        return _cross_entropy(logits, tokens[:, 1:])

    return _training(CharRNN(model), loss, config, mode)


def classifier_training(
    config: RunConfig, vocab_size: int, make_dataset: Callable[[], Examples], mode: Mode
) -> Work:
    """Trains a text classifier."""
    arrays = make_dataset().arrays
    tokens, labels = (
        torch.from_numpy(arrays[name][: config.batch_size].astype(np.int64))
        for name in ("inputs", "labels")
    )

    def loss(classifier: Any) -> torch.Tensor:
        return functional.cross_entropy(classifier(tokens).float(), labels)

    classifier = TextClassifier(config.model.with_vocabulary(vocab_size))
    return _training(classifier, loss, config, mode)


def unet_training(config: RunConfig, shape: tuple[int, int, int], mode: Mode) -> Work:
    """Trains a diffusion model; each step samples timesteps and noise."""
    unet, images = _unet(config, shape, config.batch_size)
    alpha_bars = torch.from_numpy(alphas_cumprod(config.diffusion)).float()

    def loss(unet: Any) -> torch.Tensor:
        t = torch.randint(len(alpha_bars), (config.batch_size,))
        noise = torch.randn_like(images)
        alpha_bar = alpha_bars[t][:, None, None, None]
        noisy = alpha_bar.sqrt() * images + (1 - alpha_bar).sqrt() * noise
        return functional.mse_loss(unet(noisy, t).float(), noise)

    return _training(unet, loss, config, mode)


def image_sampling(
    config: RunConfig, shape: tuple[int, int, int], batch_size: int, steps: int, mode: Mode
) -> Work:
    """Samples images by ancestral sampling."""
    unet, start = _unet(config, shape, batch_size)
    called = mode.ready(unet)
    process = config.diffusion, SamplerConfig(sampler_steps=steps)
    coefs = zip(*coefficients(*process), strict=True)
    path = list(zip(timesteps(*process).tolist(), coefs, strict=True))

    def run() -> None:
        x = start
        with torch.no_grad(), mode.autocast():  # around the loop: exiting clears the cast cache
            for t, (from_x, from_output, a, b, _, s) in path:
                output = called(x, torch.full((batch_size,), t)).float()
                x0_pred = (from_x * x + from_output * output).clamp(-1, 1)
                x = a * x + b * x0_pred + s * torch.randn_like(x)

    return Work(run, units=steps)


def text_sampling(
    config: RunConfig, vocab_size: int, batch_size: int, tokens: int, mode: Mode
) -> Work:
    """Continues prompts of one token without a KV cache."""
    gpt = GPT(config.model.with_vocabulary(vocab_size)).eval()
    called = mode.ready(gpt, dynamic=True)

    def generate(count: int) -> None:
        text = torch.zeros(batch_size, 1, dtype=torch.long)
        with torch.no_grad(), mode.autocast():  # around the loop: exiting clears the cast cache
            for _ in range(count):
                logits = called(text[:, -config.model.context_length :])[:, -1].float()
                sampled = torch.multinomial(torch.softmax(logits, dim=-1), 1)
                text = torch.cat([text, sampled], dim=1)

    warm_up = functools.partial(generate, min(tokens, 8))
    return Work(functools.partial(generate, tokens), units=batch_size * tokens, warm_up=warm_up)


def attention(num_heads: int, head_dim: int, length: int, window: int | None, mode: Mode) -> Work:
    """Computes causal attention and its gradient; a local window is passed as a mask."""
    shape = (1, num_heads, length, head_dim)
    inputs = [torch.randn(shape, requires_grad=True) for _ in range(3)]
    mask = None
    if window is not None:
        mask = torch.ones(length, length, dtype=torch.bool).tril().triu(1 - window)
    attend = mode.ready(functional.scaled_dot_product_attention)

    def run() -> None:
        with mode.autocast():
            output = attend(*inputs, attn_mask=mask, is_causal=mask is None)
        torch.autograd.grad(output.sum(), inputs)

    return Work(run, flops=attention_flops(num_heads, head_dim, length, window))


def _unet(config: RunConfig, shape: tuple[int, int, int], batch_size: int) -> Any:
    """Returns a U-Net and images in the channels-last memory format."""
    height, width, channels = shape
    unet = UNet(config.model, channels, config.diffusion.num_timesteps)
    images = torch.rand(batch_size, channels, height, width) * 2 - 1
    return (each.to(memory_format=torch.channels_last) for each in (unet, images))


def _cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def _training(
    module: torch.nn.Module, loss: Callable[[Any], torch.Tensor], config: RunConfig, mode: Mode
) -> Work:
    step, last = build_step(module, loss, config.optimization, mode), {}

    def run() -> None:
        last["loss"] = step()

    return Work(run, extra_metrics=lambda: last)


def parameter_groups(module: Any, weight_decay: float) -> list[dict[str, Any]]:
    """Returns the groups of an optimizer: matrices with weight decay, vectors without."""
    groups = {weight_decay: [], 0.0: []}
    for leaf in module.parameters():
        groups[weight_decay if leaf.ndim >= 2 else 0.0].append(leaf)
    return [{"params": leaves, "weight_decay": decay} for decay, leaves in groups.items()]


def build_step(
    module: Any, loss: Callable[[Any], Any], config: OptimizerConfig, mode: Mode
) -> Callable[[], float]:
    """Returns `step() -> loss`: gradients, clipping and AdamW at a constant learning rate.

    `loss(module) -> []` is that of the step's batch; `config` has the rates and the clipping.
    """
    if config.optimizer != "adamw" or config.lr_schedule != "constant" or config.warmup_steps:
        raise ValueError("the PyTorch step supports AdamW at a constant learning rate only")
    optimizer = torch.optim.AdamW(
        parameter_groups(module, config.weight_decay),
        lr=config.learning_rate,
        betas=(config.adam_b1, config.adam_b2),
        fused=True,
    )
    called = mode.ready(module)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with mode.autocast():
            value = loss(called)
        value.backward()
        if config.grad_clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(module.parameters(), config.grad_clip_norm)
        optimizer.step()
        return float(value.detach())

    return step
