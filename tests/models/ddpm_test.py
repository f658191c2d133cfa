"""The U-Net against PyTorch, its loss against numpy, its step on micro-batches and devices."""

import dataclasses
import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxlabs import keys
from jaxlabs.analysis.toy_training import init_params
from jaxlabs.config import UserError
from jaxlabs.diffusion.noise_schedules import DiffusionConfig, alphas_cumprod
from jaxlabs.layers.positions import sinusoidal_embedding
from jaxlabs.models import ddpm
from jaxlabs.models.ddpm import GuidedDenoiser, UNet, UNetConfig, loss, train_step
from jaxlabs.models.image_classifier import check_divisible
from jaxlabs.training import gradient_check
from jaxlabs.training.devices import data_parallel
from jaxlabs.training.state import count_parameters, create_state

SHAPE = (4, 4, 1)
KEY = jax.random.key(3)
SGD = optax.sgd(0.1)
TINY = UNetConfig(base_channels=4, num_groups=2, time_embed_dim=4, matmul_precision="highest")
pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")


def make(count=8, grad_accum_steps=1, diffusion=None, shape=SHAPE, tx=SGD, **settings):
    """Returns a state and a batch of images."""
    model = UNet(
        dataclasses.replace(TINY, **settings), diffusion or DiffusionConfig(), shape, num_classes=3
    )
    random = np.random.default_rng(1)
    batch = {
        "images": random.integers(0, 256, (count, *shape), dtype=np.uint8),
        "labels": random.integers(0, 3, count).astype(np.int32),
        "weights": np.ones(count, np.float32),
        "example_index": np.arange(count, dtype=np.int32),
    }
    shapes = jax.eval_shape(model.init, KEY, jnp.zeros((1, *shape)), jnp.zeros(1, jnp.int32))
    params = jax.tree.map(jnp.asarray, init_params(shapes["params"], seed=0))
    return create_state(model, {"params": params}, tx, grad_accum_steps=grad_accum_steps), batch


@functools.partial(jax.jit, static_argnames="train")
def loss_output(state, batch, train=False):
    return loss(state.model, state.variables(state.params), batch, KEY, train=train)


@functools.partial(jax.jit, static_argnames=("model", "method"))
def apply(model, params, *args, method=None):
    return model.apply({"params": params}, *args, method=method)


def test_reference_has_the_published_number_of_parameters():
    model = UNet(UNetConfig(), DiffusionConfig(), (28, 28, 1))
    shapes = jax.eval_shape(model.init, KEY, jnp.zeros((1, 28, 28, 1)), jnp.zeros(1, jnp.int32))
    assert count_parameters(shapes["params"]) == 1_011_969


@pytest.mark.peers
def test_network_equals_pytorch_with_the_same_weights(copy_parameters):
    torch = pytest.importorskip("torch")
    from jaxlabs.benchmark.peers import torch_models

    state, _ = make(shape=(8, 12, 3))
    torch_unet = torch_models.UNet(TINY, channels=3)
    copy_parameters(torch_unet, jax.device_get(state.params))
    x = np.random.default_rng(0).normal(size=(3, 8, 12, 3)).astype(np.float32)
    t = np.array([0, 500, 999], np.int32)
    ours = apply(state.model, state.params, x, t)
    chex.assert_shape(ours, x.shape)
    with torch.no_grad():
        theirs = torch_unet(torch.from_numpy(x.transpose(0, 3, 1, 2)), torch.from_numpy(t).long())
    np.testing.assert_allclose(ours, theirs.numpy().transpose(0, 2, 3, 1), atol=1e-4)


def test_timestep_embedding_is_the_sinusoidal_embedding():
    """With identity layers the embedding is the SiLU of a row of the sinusoidal table."""
    state, _ = make()
    eye, zero = jnp.eye(4), jnp.zeros(4)
    identity = {"kernel": eye, "bias": zero}
    params = state.params | {"time_hidden": identity, "time_output": identity}
    t = jnp.array([0, 7, 999])
    time_emb = apply(state.model, params, t, None, method="_embed")
    rows = sinusoidal_embedding(1000, 4)[np.asarray(t)]
    np.testing.assert_allclose(time_emb, rows / (1 + np.exp(-rows)), rtol=1e-5)


@pytest.mark.parametrize(
    ("prediction", "weighting"),
    [("epsilon", "uniform"), ("epsilon", "min_snr"), ("v_prediction", "min_snr")],
)
def test_loss_equals_numpy(prediction, weighting):
    diffusion = DiffusionConfig(prediction_type=prediction, loss_weighting=weighting)
    state, batch = make(3, diffusion=diffusion)
    batch["weights"] = np.array([1.0, 0.0, 2.0], np.float32)
    total, weighted = 0.0, 0.0
    for i, example_key in enumerate(keys.per_example(KEY, batch["example_index"])):
        time_key, noise_key, _ = jax.random.split(example_key, 3)
        t = int(jax.random.randint(time_key, (), 0, 1000))
        noise = np.asarray(jax.random.normal(noise_key, SHAPE), np.float64)
        signal = float(alphas_cumprod(diffusion)[t])
        x0 = batch["images"][i] / 127.5 - 1
        x = signal**0.5 * x0 + (1 - signal) ** 0.5 * noise
        inputs = x[None].astype(np.float32), np.array([t], np.int32)
        output = np.asarray(apply(state.model, state.params, *inputs), np.float64)[0]
        target = (
            noise if prediction == "epsilon" else signal**0.5 * noise - (1 - signal) ** 0.5 * x0
        )
        error = np.square(output - target).mean()
        snr = signal / (1 - signal)
        factor = min(snr, 5) / (snr if prediction == "epsilon" else snr + 1)
        total += batch["weights"][i] * error
        weighted += batch["weights"][i] * error * (1 if weighting == "uniform" else factor)
    losses = loss_output(state, batch)
    assert float(losses.weight_sum) == 3
    assert float(losses.metric_sums["squared_error"]) == pytest.approx(total, rel=1e-4)
    assert float(losses.loss_sum) == pytest.approx(weighted, rel=1e-4)


def test_loss_of_a_zero_output_is_one_per_pixel():
    """The noise has variance 1, so the squared error of an output of 0 is 1 per pixel."""
    state, batch = make(512, zero_init_output=True)
    zeros = jax.tree.map(jnp.zeros_like, state.params["output"])
    state = state.replace(params=state.params | {"output": zeros})
    assert float(loss_output(state, batch).loss_sum / 512) == pytest.approx(
        1, abs=4 * (2 / 16 / 512) ** 0.5
    )


def test_one_batch_is_overfit():
    """With a single timestep."""
    diffusion = DiffusionConfig(num_timesteps=1, beta_start=0.5, beta_end=0.5)
    state, batch = make(4, diffusion=diffusion, base_channels=8, tx=optax.adam(1e-2))
    first = float(loss_output(state, batch).loss_sum)
    for _ in range(150):
        state, metrics = train_step(state, batch, KEY)
    assert float(metrics["loss"]) * 4 < 0.05 * first


@pytest.mark.slow
def test_gradients_of_the_loss_equal_finite_differences():
    state, batch = make(2, class_conditional=True)

    def total(params, images):
        losses = loss(state.model, {"params": params}, batch | {"images": images}, KEY, train=True)
        return losses.loss_sum / losses.weight_sum

    check = gradient_check.check(total, state.params, batch["images"], key=KEY, max_entries=50)
    assert check.all_params.relative_difference < 1e-6


@pytest.mark.slow
def test_a_step_over_micro_batches_or_devices_equals_that_of_the_whole_batch():
    whole, batch = make(8, class_conditional=True)
    sliced = jax.tree.map(jnp.copy, whole).replace(grad_accum_steps=4)
    spread = jax.tree.map(jnp.copy, whole)
    placement = data_parallel(jax.devices()[:4])
    expected, metrics = train_step(whole, batch, KEY)
    sliced, sliced_metrics = train_step(sliced, batch, KEY)
    spread = placement.replicate(spread)
    split = jax.device_put(batch, placement.batch_sharding)
    spread, spread_metrics = train_step(spread, split, KEY)
    for state, found in ((sliced, sliced_metrics), (spread, spread_metrics)):
        assert float(found["loss"]) == pytest.approx(float(metrics["loss"]), rel=1e-6)
        chex.assert_trees_all_close(
            jax.device_get(state.params), jax.device_get(expected.params), rtol=1e-5, atol=1e-6
        )


def test_classifier_free_guidance_combines_conditional_and_unconditional_outputs():
    """Ten images, two chunks of five on CPUs."""
    state, batch = make(10, class_conditional=True)
    x, t, labels = ddpm.normalize(batch["images"]), jnp.arange(5, 955, 95), jnp.arange(10) % 3
    cond = apply(state.model, state.params, x, t, labels)
    uncond = apply(state.model, state.params, x, t, jnp.full(10, 3))
    assert float(jnp.abs(cond - uncond).max()) > 1e-3
    np.testing.assert_allclose(uncond, apply(state.model, state.params, x, t), atol=1e-6)

    plain = jax.jit(GuidedDenoiser(state.model))((state.params, 1.0), x, t, labels)
    np.testing.assert_allclose(plain, cond, atol=1e-6)
    guided = jax.jit(GuidedDenoiser(state.model, guided=True))((state.params, 3.0), x, t, labels)
    np.testing.assert_allclose(guided, uncond + 3 * (cond - uncond), rtol=1e-4, atol=1e-5)
    assert GuidedDenoiser(state.model, guided=True) == GuidedDenoiser(state.model, guided=True)


def test_labels_are_dropped_in_training_only():
    state, batch = make(8, class_conditional=True, class_dropout=1.0)
    other = batch | {"labels": (batch["labels"] + 1) % 3}
    in_training = [float(loss_output(state, b, train=True).loss_sum) for b in (batch, other)]
    in_evaluation = [float(loss_output(state, b).loss_sum) for b in (batch, other)]
    assert in_training[0] == in_training[1]
    assert in_evaluation[0] != in_evaluation[1]


@pytest.mark.parametrize("shape", [(30, 28, 1), (28, 27, 3), (2, 2, 1)])
def test_image_sizes_not_divisible_by_four_are_refused(shape):
    message = rf"images of {shape[0]}x{shape[1]} are not accepted; .* multiples of 4.* 2 times"
    with pytest.raises(UserError, match=message):
        check_divisible(shape, ddpm.NUM_POOLS)


def test_normalize_and_denormalize_are_inverse():
    pixels = np.array([0, 51, 255], np.uint8)
    signed = ddpm.normalize(pixels)
    np.testing.assert_allclose(signed, [-1, -0.6, 1], atol=1e-6)
    np.testing.assert_allclose(ddpm.denormalize(signed) * 255, pixels, atol=1e-4)


@pytest.mark.parametrize("zero_init_output", [False, True])
def test_every_matmul_has_the_precision_of_the_setting(zero_init_output):
    state, batch = make(2, zero_init_output=zero_init_output)
    jaxpr = jax.make_jaxpr(
        lambda params: loss(state.model, {"params": params}, batch, KEY, train=True).loss_sum
    )(state.params)
    products = re.findall(r"dot_general\[.*?preferred_element_type", str(jaxpr), re.DOTALL)
    assert len(products) > 5
    assert all("HIGHEST" in product for product in products)
