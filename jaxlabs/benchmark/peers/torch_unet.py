"""The PyTorch equivalent of `jaxlabs.models.ddpm.UNet`, without class conditioning.

Uses PyTorch's layers and their default initialization. PyTorch is imported lazily.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxlabs.benchmark.peers import torch_names
from jaxlabs.layers import positions
from jaxlabs.layers.convolution import EPSILON
from jaxlabs.models.ddpm import UNetConfig


def build_unet(config: UNetConfig, channels: int = 1, num_timesteps: int = 1000) -> Any:
    """Returns a `torch.nn.Module` of images `[batch, channels, height, width]` and `t [batch]`."""
    import torch
    from torch import nn

    low, high = config.base_channels, 2 * config.base_channels

    class Block(nn.Module):
        def __init__(self, channels, features):
            super().__init__()
            self.first = nn.Conv2d(channels, features, 3, padding=1)
            self.first_norm = nn.GroupNorm(config.num_groups, features, eps=EPSILON)
            self.project = nn.Linear(config.time_embed_dim, features)
            self.second = nn.Conv2d(features, features, 3, padding=1)
            self.second_norm = nn.GroupNorm(config.num_groups, features, eps=EPSILON)
            same = channels == features
            self.shortcut = nn.Identity() if same else nn.Conv2d(channels, features, 1)

        def forward(self, x, time_emb):
            h = nn.functional.silu(self.first_norm(self.first(x)))
            h = h + self.project(time_emb)[:, :, None, None]
            h = nn.functional.silu(self.second_norm(self.second(h)))
            return h + self.shortcut(x)

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            table = torch.from_numpy(
                positions.sinusoidal_embedding(num_timesteps, config.time_embed_dim)
            )
            self.register_buffer("table", table)
            self.time_hidden = nn.Linear(config.time_embed_dim, config.time_embed_dim)
            self.time_output = nn.Linear(config.time_embed_dim, config.time_embed_dim)
            self.input = nn.Conv2d(channels, low, 3, padding=1)
            self.down_0, self.down_1 = Block(low, low), Block(low, high)
            self.middle = Block(high, high)
            self.up_1, self.up_0 = Block(2 * high, low), Block(2 * low, low)
            self.output = nn.Conv2d(low, channels, 1)

        def forward(self, x, t):
            time_emb = self.time_output(nn.functional.silu(self.time_hidden(self.table[t])))
            full = self.down_0(self.input(x), time_emb)
            half = self.down_1(nn.functional.max_pool2d(full, 2), time_emb)
            quarter = self.middle(nn.functional.max_pool2d(half, 2), time_emb)
            half = self.up_1(torch.cat([self.upsample(quarter), half], dim=1), time_emb)
            full = self.up_0(torch.cat([self.upsample(half), full], dim=1), time_emb)
            return self.output(full)

        def upsample(self, x):
            return nn.functional.interpolate(x, scale_factor=2, mode="bilinear")

    return UNet()


def write_params(module: Any, params: Mapping[str, Any]) -> None:
    """Copies the parameters of our U-Net to the module."""
    values: torch_names.Arrays = {}
    for name in ("time_hidden", "time_output"):
        values |= torch_names.linear(name, params[name])
    for name, layer in params.items():
        if name in ("input", "output"):
            values |= _convolution(name, layer)
        elif name.startswith(("down", "middle", "up")):
            for sublayer, inner in layer.items():
                full = f"{name}.{sublayer}"
                if sublayer == "project":
                    values |= torch_names.linear(full, inner)
                elif sublayer.endswith("norm"):
                    values |= torch_names.norm(full, inner)
                else:
                    values |= _convolution(full, inner)
    torch_names.write(module, values)


def _convolution(name: str, layer: Mapping[str, Any]) -> torch_names.Arrays:
    """Returns a convolution in PyTorch's layout, `[out, in, height, width]`; 1x1 for a `Dense`."""
    kernel = np.asarray(layer["kernel"])
    if kernel.ndim == 2:
        kernel = kernel[None, None]
    return {f"{name}.weight": kernel.transpose(3, 2, 0, 1), f"{name}.bias": layer["bias"]}
