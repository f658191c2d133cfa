"""The choice of implementations, as pure functions; a compiled program holds one alone."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from jaxlabs.layers.cpu import dispatch

PACKAGE = Path(dispatch.__file__).parents[2]

PLAIN = {
    "dtype": jnp.bfloat16,
    "time": 1024,
    "head_dim": 64,
    "window": None,
    "causal": True,
    "plain": True,
}


def attention_implementation(platform, **changes):
    return dispatch.attention_implementation(platform, **PLAIN | changes)


def test_cudnn_takes_half_precision_causal_attention_without_dropout_or_padding():
    assert attention_implementation("cuda") == "cudnn"
    assert attention_implementation("cuda", dtype=jnp.float16, window=7, time=100_000) == "cudnn"
    for unsupported in (
        {"dtype": jnp.float32},
        {"plain": False},
        {"causal": False},
        {"head_dim": 256},
        {"head_dim": 60},
    ):
        assert attention_implementation("cuda", **unsupported) == "dense"


@pytest.mark.parametrize("platform", ["cuda", "default"])
def test_accelerators_keep_all_scores_up_to_two_thousand_keys(platform):
    options = {"dtype": jnp.float32}
    assert attention_implementation(platform, time=2048, **options) == "dense"
    assert attention_implementation(platform, time=2049, **options) == "remat"
    assert attention_implementation(platform, time=4096, window=256, **options) == "block_local"
    assert attention_implementation(platform, time=4095, window=256, **options) == "remat"


def test_cpus_skip_masked_scores_at_every_length():
    for time, window, implementation in [
        (1, None, "chunked"),
        (2047, None, "chunked"),
        (2048, None, "flash"),
        (1024, 64, "block_local"),
        (1024, 65, "chunked"),
        (4095, 256, "chunked"),
        (4096, 255, "block_local"),
        (4096, 256, "flash"),
        (127, 1, "chunked"),
        (128, 8, "block_local"),
        (128, 9, "chunked"),
    ]:
        assert attention_implementation("cpu", time=time, window=window) == implementation
    for unsupported in ({"plain": False}, {"causal": False}):
        assert attention_implementation("cpu", time=16_384, **unsupported) == "chunked"


def test_this_machine_has_cudnn_attention_only_with_an_nvidia_gpu():
    device = jax.devices()[0]
    assert dispatch.has_cudnn_attention() <= (device.platform == "gpu")


def test_a_compiled_program_holds_the_form_of_its_platform_alone():
    def run(x):
        return dispatch.by_platform(x, cpu=jnp.sin, default=jnp.cos, cuda=jnp.tanh)

    traced = jax.jit(run).trace(jnp.ones(3))
    for platform, name in [("cpu", "sine"), ("tpu", "cosine"), ("cuda", "tanh")]:
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert re.findall(r"stablehlo\.(sine|cosine|tanh)", text) == [name]


def test_platform_dependent_is_called_in_one_file():
    callers = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.glob("layers/**/*.py")
        if "platform_dependent" in path.read_text()
    ]
    assert callers == ["layers/cpu/dispatch.py"]
