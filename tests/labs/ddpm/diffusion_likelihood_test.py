import math

import jax.numpy as jnp
import jax.random
import numpy as np
import pytest
from scipy.stats import norm

from jaxlabs.diffusion import forward_process
from jaxlabs.diffusion.noise_schedules import DiffusionConfig, alphas_cumprod, make_schedule
from jaxlabs.labs.ddpm.diffusion_likelihood import (
    estimate,
    pixel_log_likelihood,
    stratify_timesteps,
)

SHAPE = (2, 2, 1)
FOUR = DiffusionConfig(num_timesteps=4, beta_start=0.05, beta_end=0.6)
FORTY = DiffusionConfig(
    num_timesteps=40, beta_start=0.01, beta_end=0.2, prediction_type="v_prediction"
)


def constant_denoiser(x0_pred, diffusion, x, t):
    """Output of a network that predicts the same x0 for every noisy image."""
    schedule = make_schedule(diffusion)
    signal = forward_process.extract(schedule.sqrt_alphas_cumprod, t, x)
    noise = (x - signal * x0_pred) / forward_process.extract(
        schedule.sqrt_one_minus_alphas_cumprod, t, x
    )
    return forward_process.target(
        schedule, jnp.broadcast_to(x0_pred, x.shape), noise, t, diffusion.prediction_type
    )


def denoise_four(x0_pred, x, t, condition):
    return constant_denoiser(x0_pred, FOUR, x, t)


def denoise_forty(x0_pred, x, t, condition):
    return constant_denoiser(x0_pred, FORTY, x, t)


def reference_bits(x0, x0_preds, diffusion, variance):
    """Bits per dimension of every timestep and of the prior, computed for each pixel."""
    alpha_bar, bits = alphas_cumprod(diffusion), []
    alpha_bar_prev = np.append(1, alpha_bar[:-1])
    beta = 1 - alpha_bar / alpha_bar_prev
    posterior = beta * (1 - alpha_bar_prev) / (1 - alpha_bar)
    for t in range(len(alpha_bar)):
        variance_t = (posterior if variance == "fixed_small" else beta)[t] if t else posterior[1]
        total = 0.0
        for pixel, x0_pred in zip(x0.ravel(), x0_preds.ravel(), strict=True):
            if t:
                mean_difference = (
                    math.sqrt(alpha_bar_prev[t]) * beta[t] / (1 - alpha_bar[t]) * (pixel - x0_pred)
                )
                total += math.log(variance_t / posterior[t]) / 2 - 0.5
                total += (posterior[t] + mean_difference**2) / (2 * variance_t)
            else:
                edges = pixel - 1 / 255, pixel + 1 / 255
                low = 0 if pixel < -0.999 else norm.cdf(edges[0], x0_pred, math.sqrt(variance_t))
                high = 1 if pixel > 0.999 else norm.cdf(edges[1], x0_pred, math.sqrt(variance_t))
                total -= math.log(max(high - low, 1e-12))
        bits.append(total / x0.size / math.log(2))
    prior = (alpha_bar[-1] * x0**2 + (1 - alpha_bar[-1]) - 1 - math.log(1 - alpha_bar[-1])) / 2
    return np.array(bits), prior.mean() / math.log(2)


def random_images(count):
    images = np.random.default_rng(0).integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    images[0, 0], images[1, 0] = 0, 255
    return images


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_bound_over_all_timesteps_equals_loop_over_pixels(variance):
    images = random_images(3)
    x0_pred = jnp.array([-0.9, 0.2, 0.4, -0.3]).reshape(1, *SHAPE)
    setup = {"diffusion": FOUR, "variance_type": variance, "strata": 9, "batch_size": 2}
    bound = estimate(denoise_four, x0_pred, images, jax.random.key(0), **setup)
    x0 = images / 127.5 - 1
    expected_bits = [reference_bits(image, np.asarray(x0_pred[0]), FOUR, variance) for image in x0]
    by_time = np.array([bits for bits, _ in expected_bits])
    np.testing.assert_allclose(bound.bits_by_timestep, by_time.mean(axis=0), rtol=2e-4)
    np.testing.assert_array_equal(bound.timesteps, range(4))
    totals = np.array([bits.sum() + prior for bits, prior in expected_bits])
    assert bound.bits == pytest.approx(totals.mean(), rel=2e-4)
    assert bound.standard_error == pytest.approx(totals.std(ddof=1) / 3**0.5, rel=1e-3)
    assert bound.prior == pytest.approx(np.mean([prior for _, prior in expected_bits]), rel=1e-4)
    assert bound.decoder == bound.bits_by_timestep[0]


def test_stratified_estimate_is_within_standard_error():
    images = np.broadcast_to(random_images(2)[1:], (400, *SHAPE))
    x0_pred = jnp.array([-0.9, 0.2, 0.4, -0.3]).reshape(1, *SHAPE)
    setup = {"diffusion": FORTY, "variance_type": "fixed_large", "strata": 5, "batch_size": 400}
    bound = estimate(denoise_forty, x0_pred, images, jax.random.key(1), **setup)
    bits, prior = reference_bits(images[0] / 127.5 - 1, np.asarray(x0_pred[0]), FORTY, "beta")
    assert 0 < bound.standard_error < 0.05 * bound.bits
    assert abs(bound.bits - bits.sum() - prior) < 4 * bound.standard_error
    # For v-prediction, the error of x0 is that of the output times sqrt(1 - alpha_bar).
    x0_error = np.mean((images[0] / 127.5 - 1 - np.asarray(x0_pred[0])) ** 2)
    expected = x0_error / (1 - alphas_cumprod(FORTY)[0])
    assert bound.squared_error[0] == pytest.approx(expected, rel=1e-3)


def test_strata_partition_timesteps_with_zero_separate():
    for count, strata in ((1000, 50), (10, 10), (4, 9), (7, 2), (1, 5)):
        edges = stratify_timesteps(count, strata)
        assert (edges[0], edges[1], edges[-1]) == (0, 1, count)
        assert (np.diff(edges) > 0).all()
        assert len(edges) == min(count, strata) + 1


def test_probabilities_of_all_pixel_values_sum_to_one():
    values = np.arange(256, dtype=np.float32) / np.float32(127.5) - 1
    for mean, std in ((0.3, 0.01), (-1.05, 0.2), (0.99, 0.5)):
        nats = pixel_log_likelihood(jnp.asarray(values), jnp.float32(mean), jnp.float32(std))
        assert jnp.exp(nats).sum() == pytest.approx(1, abs=2e-5)
    outlier = pixel_log_likelihood(jnp.float32(0.9), jnp.float32(-0.9), jnp.float32(1e-3))
    assert outlier == pytest.approx(math.log(1e-12))
