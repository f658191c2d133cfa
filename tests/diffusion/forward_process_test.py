import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.diffusion import forward_process
from jaxlabs.diffusion.noise_schedules import DiffusionConfig, alphas_cumprod, make_schedule

CONFIG = DiffusionConfig(num_timesteps=50, beta_end=0.2)
SCHEDULE = make_schedule(CONFIG)
TIMES = np.array([0, 1, 24, 49])


def images(*shape):
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def test_q_sample_has_the_mean_and_variance_of_the_timestep():
    x0, count = jnp.array([0.9, -0.3]), 20_000
    noise = jax.random.normal(jax.random.key(0), (len(TIMES), count, 2))
    for t, epsilon in zip(TIMES, noise, strict=True):
        t_batch = jnp.full((count,), t)
        x = forward_process.q_sample(
            SCHEDULE, jnp.broadcast_to(x0[None], epsilon.shape), t_batch, epsilon
        )
        alpha_bar = alphas_cumprod(CONFIG)[t]
        error = ((1 - alpha_bar) / count) ** 0.5
        np.testing.assert_allclose(x.mean(axis=0), alpha_bar**0.5 * x0, atol=4 * error)
        np.testing.assert_allclose(x.var(axis=0), 1 - alpha_bar, rtol=0.04)


def test_single_steps_give_the_same_marginal_distribution():
    """Exact signal and variance of x after single steps of variance beta."""
    signal, variance = 1.0, 0.0
    for t in range(CONFIG.num_timesteps):
        beta = float(SCHEDULE.betas[t])
        signal, variance = signal * (1 - beta) ** 0.5, variance * (1 - beta) + beta
        inputs = (jnp.array([t]), jnp.ones((1, 1)))
        assert forward_process.extract(SCHEDULE.sqrt_alphas_cumprod, *inputs)[
            0, 0
        ] == pytest.approx(signal, rel=1e-5)
        noise_scale = forward_process.extract(SCHEDULE.sqrt_one_minus_alphas_cumprod, *inputs)[0, 0]
        assert noise_scale**2 == pytest.approx(variance, rel=1e-5)


def test_posterior_equals_bayes_rule():
    """The product of two normal densities of x_{t-1}: precisions add up."""
    x0, x = images(3, 2, 2, 1), images(3, 2, 2, 1)[::-1].copy()
    t, alpha_bar = np.array([1, 24, 49]), alphas_cumprod(CONFIG)
    mean = forward_process.posterior_mean(SCHEDULE, jnp.array(x0), x, t)
    chex.assert_shape(mean, x.shape)
    for row, time in enumerate(t):
        alpha = alpha_bar[time] / alpha_bar[time - 1]
        to_x, from_x0 = alpha / (1 - alpha), 1 / (1 - alpha_bar[time - 1])
        expected = x[row] * to_x / alpha**0.5 + x0[row] * from_x0 * alpha_bar[time - 1] ** 0.5
        np.testing.assert_allclose(mean[row], expected / (to_x + from_x0), atol=2e-6)
        log_variance = SCHEDULE.posterior_log_variance[time]
        assert log_variance == pytest.approx(-np.log(to_x + from_x0), rel=1e-5)
    at_zero = forward_process.posterior_mean(SCHEDULE, x0, x, np.array([0, 0, 0]))
    np.testing.assert_allclose(at_zero, x0, atol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_prediction_from_the_target_recovers_the_image(prediction):
    x0, noise = images(4, 3, 3, 1), images(4, 3, 3, 1)[::-1].copy()
    x = forward_process.q_sample(SCHEDULE, x0, TIMES, noise)
    target = forward_process.target(SCHEDULE, x0, noise, TIMES, prediction)
    found = forward_process.predict_x0(SCHEDULE, x, TIMES, target, prediction)
    np.testing.assert_allclose(found, x0, atol=2e-5)


def test_v_is_x_rotated_by_90_degrees():
    """In the plane of image and noise, x = (cos, sin) and v = (-sin, cos)."""
    ones, zeros = jnp.ones((4, 1)), jnp.zeros((4, 1))
    angle = np.arccos(alphas_cumprod(CONFIG)[TIMES] ** 0.5)[:, None]
    image_coef = forward_process.target(SCHEDULE, ones, zeros, TIMES, "v_prediction")
    noise_coef = forward_process.target(SCHEDULE, zeros, ones, TIMES, "v_prediction")
    np.testing.assert_allclose(image_coef, -np.sin(angle), atol=1e-6)
    np.testing.assert_allclose(noise_coef, np.cos(angle), atol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_min_snr_weights_the_x0_error_by_the_clipped_snr(prediction):
    """An output error d corresponds to an x0 error e: weight d^2 = min(SNR, gamma) e^2."""
    config = DiffusionConfig(prediction_type=prediction, loss_weighting="min_snr", num_timesteps=50)
    weights, schedule = forward_process.loss_weights(config), make_schedule(config, np.float64)
    with jax.enable_x64(True):
        x, output = jnp.ones((4, 1), jnp.float64), jnp.zeros((4, 1), jnp.float64)
        both = [
            forward_process.predict_x0(schedule, x, TIMES, o, prediction)
            for o in (output, output + 0.1)
        ]
        x0_error = np.square(np.asarray(both[1] - both[0]))[:, 0]
    expected = np.minimum(np.exp(schedule.log_snr[TIMES]), 5.0) * x0_error / 0.1**2
    np.testing.assert_allclose(weights[TIMES], expected, rtol=2e-5)
    assert (forward_process.loss_weights(CONFIG) == 1).all()
