"""Samplers on Gaussian data with the known optimal denoiser, and their properties."""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.diffusion import forward_process
from jaxlabs.diffusion.noise_schedules import DiffusionConfig, alphas_cumprod, make_schedule
from jaxlabs.diffusion.samplers import (
    ANCESTRAL,
    DDIM,
    DPM_SOLVER,
    SAMPLERS,
    SPACINGS,
    SamplerConfig,
    coefficients,
    sample,
    sample_many,
    timesteps,
)

SHAPE = (2, 2, 1)
TEN_STEPS = DiffusionConfig(num_timesteps=10, beta_end=0.7)
KEY = 3


def rescaled(count, **settings):
    """The linear schedule, rescaled to `count` timesteps."""
    ends = {"beta_start": 0.1 / count, "beta_end": 20 / count}
    return DiffusionConfig(num_timesteps=count, **ends, **settings)


def from_table(params, x, t, condition):
    """Outputs `params [T, *shape]` independent of x."""
    return params[t]


def toy_denoiser(params, x, t, condition):
    return params * jnp.sin(2 * x)


@dataclasses.dataclass(frozen=True)
class OptimalDenoiser:
    """The optimal denoiser of normal data: the conditional expectation of x0 or noise, given x.

    Its parameters are the mean `[4]` of the data, the eigenvalues `[4]` of its covariance and the
    eigenvectors, in columns.
    """

    diffusion: DiffusionConfig

    def __call__(self, params, x, t, condition):
        mean, variances, axes = params
        schedule = make_schedule(self.diffusion, x.dtype)
        rows = x.reshape(-1, 4)
        alpha_bar = forward_process.extract(schedule.alphas_cumprod, t, rows)
        centered = (rows - jnp.sqrt(alpha_bar) * mean[None, :]) @ axes
        gain = (
            jnp.sqrt(alpha_bar)
            * variances[None, :]
            / (alpha_bar * variances[None, :] + 1 - alpha_bar)
        )
        x0 = (mean[None, :] + (gain * centered) @ axes.T).reshape(x.shape)
        signal = forward_process.extract(schedule.sqrt_alphas_cumprod, t, x)
        noise = (x - signal * x0) / forward_process.extract(
            schedule.sqrt_one_minus_alphas_cumprod, t, x
        )
        return forward_process.target(schedule, x0, noise, t, self.diffusion.prediction_type)


def normal_data(dtype=np.float32):
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    mean, variances = np.array([0.5, -0.2, 0.0, 0.1]), np.array([1.0, 0.3, 0.1, 0.02])
    return tuple(values.astype(dtype) for values in (mean, variances, axes))


def run(denoise, params, rows, diffusion, snapshots=(), **settings):
    return sample(
        denoise,
        params,
        jax.random.key(KEY),
        jnp.asarray(rows),
        shape=SHAPE,
        diffusion=diffusion,
        sampler=SamplerConfig(**settings),
        snapshots=snapshots,
    )


@pytest.mark.parametrize(
    ("settings", "prediction"),
    [
        ({"sampler": ANCESTRAL, "sampler_steps": 500}, "epsilon"),
        (
            {"sampler": ANCESTRAL, "sampler_steps": 250, "variance_type": "fixed_large"},
            "v_prediction",
        ),
        ({"sampler": DDIM, "sampler_steps": 100, "timestep_spacing": "log_snr"}, "v_prediction"),
        ({"sampler": DDIM, "sampler_steps": 250, "eta": 0.5}, "epsilon"),
        ({"sampler": DPM_SOLVER, "sampler_steps": 25, "timestep_spacing": "log_snr"}, "epsilon"),
    ],
)
def test_samples_of_normal_data_have_its_mean_and_covariance(settings, prediction):
    diffusion, count = rescaled(500, prediction_type=prediction), 4000
    mean, variances, axes = params = normal_data()
    samples = run(
        OptimalDenoiser(diffusion), params, range(count), diffusion, clip_sample=False, **settings
    )
    rows = (np.asarray(samples.images, np.float64).reshape(count, 4) - mean) @ axes
    # Four standard errors plus the discretization error.
    np.testing.assert_allclose(rows.mean(axis=0) / variances**0.5, 0, atol=4 / count**0.5 + 0.02)
    scaled_covariance = np.cov((rows / variances**0.5).T)
    np.testing.assert_allclose(scaled_covariance, np.eye(4), atol=4 * (2 / count) ** 0.5 + 0.05)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"variance_type": "fixed_large"},
        {"sampler": DDIM, "eta": 1.0},
        {"sampler": DDIM, "eta": 0.5},
    ],
)
def test_variance_of_stochastic_samplers_converges_at_order_one(settings):
    """For normal data a step is linear, so the variance is known exactly."""
    diffusion, variances, errors = rescaled(2**12), np.array([1.0, 0.3]), []
    alpha_bars = alphas_cumprod(diffusion)
    for steps in (64, 128, 256):
        sampler = SamplerConfig(sampler_steps=steps, **settings)
        coefs = coefficients(diffusion, sampler)
        variance = np.ones(2)
        for index, t in enumerate(timesteps(diffusion, sampler)):
            gain = (
                np.sqrt(alpha_bars[t]) * variances / (alpha_bars[t] * variances + 1 - alpha_bars[t])
            )
            a, b, s = (values[index] for values in (coefs.a, coefs.b, coefs.s))
            variance = (a + b * gain) ** 2 * variance + s**2
        errors.append(np.abs(variance - variances).max())
    np.testing.assert_allclose(np.log2(np.array(errors[:-1]) / errors[1:]), 1, atol=0.25)


def test_dpm_solver_keeps_the_deviation_of_normal_data_in_twenty_steps():
    """The exact second moments of x and of the previous x0."""
    diffusion, alpha_bars = DiffusionConfig(), alphas_cumprod(DiffusionConfig())
    sampler = SamplerConfig(sampler=DPM_SOLVER, sampler_steps=20, timestep_spacing="log_snr")
    coefs = coefficients(diffusion, sampler)
    for variances in (1.0, 0.1, 0.02):
        moments = np.diag([1.0, 0.0])
        for index, t in enumerate(timesteps(diffusion, sampler)):
            gain = (
                np.sqrt(alpha_bars[t]) * variances / (alpha_bars[t] * variances + 1 - alpha_bars[t])
            )
            a, b, c = (values[index] for values in (coefs.a, coefs.b, coefs.c))
            step = np.array([[a + b * gain, c], [gain, 0]])
            moments = step @ moments @ step.T
        assert np.sqrt(moments[0, 0] / variances) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("sampler", "order"), [(DDIM, 1), (DPM_SOLVER, 2)])
def test_error_converges_at_the_order_of_the_solver(sampler, order):
    """Against the exact probability flow: along an axis, x / deviation is constant."""
    count = 2**14
    diffusion = DiffusionConfig(num_timesteps=count, beta_start=0.1 / count, beta_end=20 / count)
    middle, alpha_bars = count // 4 - 1, alphas_cumprod(diffusion)
    with jax.enable_x64(True):
        mean, variances, axes = params = jax.tree.map(jnp.asarray, normal_data(np.float64))
        start = np.random.default_rng(1).standard_normal((3, *SHAPE))
        deviations = [
            np.sqrt(alpha_bars[t] * variances + 1 - alpha_bars[t])[None]
            for t in (count - 1, middle)
        ]
        from_mean = (start.reshape(3, 4) - alpha_bars[-1] ** 0.5 * mean[None]) @ axes
        exact = (from_mean * deviations[1] / deviations[0]) @ axes.T
        exact += alpha_bars[middle] ** 0.5 * mean[None]
        errors = []
        for steps in (32, 64, 128):
            samples = sample(
                OptimalDenoiser(diffusion),
                params,
                jax.random.key(0),
                jnp.arange(3),
                shape=SHAPE,
                diffusion=diffusion,
                sampler=SamplerConfig(sampler=sampler, sampler_steps=steps, clip_sample=False),
                snapshots=(middle,),
                start=jnp.asarray(start),
            )
            assert samples.snapshots.dtype == jnp.float64
            errors.append(float(jnp.abs(samples.snapshots[0].reshape(3, 4) - exact).max()))
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    np.testing.assert_allclose(orders, order, atol=0.25)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_single_step_returns_the_predicted_x0(sampler):
    output = np.random.default_rng(0).standard_normal((10, *SHAPE)).astype(np.float32)
    samples = run(from_table, output, [4, 7], TEN_STEPS, (9, 0), sampler=sampler, sampler_steps=1)
    start = samples.snapshots[0]
    schedule, t = make_schedule(TEN_STEPS), np.array([9, 9])
    x0_pred = forward_process.predict_x0(schedule, start, t, output[t], "epsilon")
    np.testing.assert_allclose(samples.images, np.clip(x0_pred, -1, 1), atol=1e-5)
    np.testing.assert_array_equal(samples.snapshots[1], samples.images)


def test_an_image_depends_on_its_row_and_not_on_the_batch():
    setup = {"sampler": DDIM, "sampler_steps": 5, "eta": 0.5}
    whole = run(toy_denoiser, 0.9, range(5), TEN_STEPS, **setup).images
    alone = run(toy_denoiser, 0.9, [3], TEN_STEPS, **setup).images
    np.testing.assert_allclose(alone[0], whole[3], atol=1e-6)
    assert np.abs(np.asarray(whole[3] - whole[2])).max() > 0.01
    many = sample_many(
        toy_denoiser,
        0.9,
        jax.random.key(KEY),
        5,
        batch_size=2,
        shape=SHAPE,
        diffusion=TEN_STEPS,
        sampler=SamplerConfig(**setup),
    )
    chex.assert_shape(many, (5, *SHAPE))
    np.testing.assert_allclose(many, whole, atol=1e-6)


def test_condition_is_passed_per_row():
    def labels_as_output(params, x, t, condition):
        return jnp.broadcast_to(condition.reshape(-1, 1, 1, 1), x.shape)

    labels = np.array([-0.5, 0.0, 0.25], np.float32)
    v = dataclasses.replace(
        TEN_STEPS, prediction_type="v_prediction", beta_start=0.99, beta_end=0.99
    )
    samples = sample_many(
        labels_as_output,
        None,
        jax.random.key(0),
        3,
        batch_size=2,
        shape=SHAPE,
        diffusion=v,
        sampler=SamplerConfig(sampler=DDIM, sampler_steps=1),
        condition=labels,
    )
    # With almost no signal in x, v is -x0.
    np.testing.assert_allclose(samples.mean(axis=(1, 2, 3)), -labels, atol=1e-6)


def test_new_parameters_and_an_equal_network_do_not_recompile():
    settings = {"sampler_steps": 3, "clip_sample": False}
    mean, variances, axes = normal_data()
    run(OptimalDenoiser(TEN_STEPS), (mean, variances, axes), range(2), TEN_STEPS, **settings)
    compiled = sample._cache_size()
    equal = DiffusionConfig(num_timesteps=10, beta_end=0.7)
    run(OptimalDenoiser(equal), (mean + 1, variances, axes), [5, 6], equal, **settings)
    assert sample._cache_size() == compiled


def test_snapshots_are_the_intermediate_states():
    output = np.random.default_rng(0).standard_normal((10, *SHAPE)).astype(np.float32)
    snapshots = (9, 6, 5, 0)
    setup = {"sampler": DDIM, "sampler_steps": 5, "clip_sample": False}  # timesteps 9, 7, 5, 3, 1
    samples = run(from_table, output, [0], TEN_STEPS, snapshots, **setup)
    chex.assert_shape(samples.snapshots, (4, 1, *SHAPE))
    np.testing.assert_array_equal(samples.snapshots[1], samples.snapshots[2])
    np.testing.assert_array_equal(samples.snapshots[3], samples.images)
    plain = run(from_table, output, [0], TEN_STEPS, **setup)
    chex.assert_shape(plain.snapshots, (0, 1, *SHAPE))
    np.testing.assert_array_equal(plain.images, samples.images)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_timesteps_decrease_and_are_all_used_with_as_many_steps(spacing):
    every = SamplerConfig(sampler_steps=10, timestep_spacing=spacing)
    np.testing.assert_array_equal(timesteps(TEN_STEPS, every), np.arange(10)[::-1])
    for steps in (1, 3, 7, 20, 400):
        times = timesteps(
            DiffusionConfig(), SamplerConfig(sampler_steps=steps, timestep_spacing=spacing)
        )
        assert len(times) == steps
        assert (np.diff(times) < 0).all()
        assert times[-1] >= 0
        assert (times[0] == 999) == (spacing != "leading")


def test_strides_are_uniform_in_the_log_snr():
    times = timesteps(
        DiffusionConfig(), SamplerConfig(sampler_steps=20, timestep_spacing="log_snr")
    )
    strides = np.diff(make_schedule(DiffusionConfig()).log_snr[times])
    np.testing.assert_allclose(strides, strides.mean(), rtol=0.35)  # timesteps are integers
    np.testing.assert_allclose(strides[:-4], strides.mean(), rtol=0.03)


def test_more_steps_than_timesteps_are_refused():
    with pytest.raises(UserError, match=r"sampler_steps: 11 is not accepted; .* 10$"):
        timesteps(TEN_STEPS, SamplerConfig(sampler_steps=11))


@dataclasses.dataclass(frozen=True)
class ToyNetwork:
    """A network whose output depends on every input."""

    def __call__(self, params, x, t, condition):
        shift = (t + condition).astype(x.dtype)[:, None, None, None]
        return params * jnp.sin(x + shift / 10)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_images_are_equal_with_64_bit_mode_and_strict_promotion(sampler):
    """Up to rounding, since XLA may compile another program."""
    settings = SamplerConfig(sampler=sampler, sampler_steps=4, eta=0.5 * (sampler == DDIM))

    def sampled():
        return sample(
            ToyNetwork(),
            jnp.float32(0.7),
            jax.random.key(KEY),
            jnp.arange(3, dtype=jnp.int32),
            shape=SHAPE,
            diffusion=TEN_STEPS,
            sampler=settings,
            snapshots=(5,),
            condition=jnp.array([0, 4, 2], jnp.int32),
        )

    expected = sampled()
    for setting in (jax.enable_x64(True), jax.numpy_dtype_promotion("strict")):
        with setting:
            found = sampled()
        for ours, theirs in zip(found, expected, strict=True):
            assert ours.dtype == jnp.float32
            np.testing.assert_allclose(ours, theirs, atol=1e-5)
