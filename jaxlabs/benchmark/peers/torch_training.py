"""A typical PyTorch training step: AdamW, gradient clipping, autocast and `torch.compile`."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import torch

from jaxlabs.training.optimizers import OptimizerConfig


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
