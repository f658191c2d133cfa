import math

import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.diffusion.noise_schedules import DiffusionConfig, alphas_cumprod, make_schedule

LINEAR = DiffusionConfig()
COSINE = DiffusionConfig(noise_schedule="cosine")


@pytest.mark.parametrize("config", [LINEAR, COSINE, DiffusionConfig(num_timesteps=2)])
def test_tables_equal_a_loop_over_timesteps_in_float64(config):
    schedule, count, alpha_bar = make_schedule(config), config.num_timesteps, 1.0
    for t in range(count):
        if config is COSINE:
            signal = [math.cos((step / count + 0.008) / 1.008 * math.pi / 2) for step in (t, t + 1)]
            beta = min(1 - (signal[1] / signal[0]) ** 2, 0.999)
        else:
            beta = 1e-4 + (0.02 - 1e-4) * t / (count - 1)
        prev, alpha_bar = alpha_bar, alpha_bar * (1 - beta)
        expected = {
            "betas": beta,
            "alphas_cumprod": alpha_bar,
            "sqrt_alphas_cumprod": alpha_bar**0.5,
            "sqrt_one_minus_alphas_cumprod": (1 - alpha_bar) ** 0.5,
            "posterior_mean_coef_x0": prev**0.5 * beta / (1 - alpha_bar),
            "posterior_mean_coef_xt": (1 - beta) ** 0.5 * (1 - prev) / (1 - alpha_bar),
            "log_snr": math.log(alpha_bar / (1 - alpha_bar)),
        }
        if t:
            expected["posterior_log_variance"] = math.log((1 - prev) / (1 - alpha_bar) * beta)
        for name, value in expected.items():
            assert getattr(schedule, name)[t] == pytest.approx(value, rel=2e-6, abs=1e-12), name
    assert schedule.posterior_log_variance[0] == schedule.posterior_log_variance[1]


def test_tables_are_read_only_float32_of_float64():
    single, double = make_schedule(COSINE), make_schedule(COSINE, np.float64)
    assert make_schedule(DiffusionConfig(noise_schedule="cosine")) is single
    for name, values in vars(single).items():
        assert values.dtype == np.float32
        assert not values.flags.writeable, name
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(values, getattr(double, name).astype(np.float32))


def test_signal_is_negligible_at_the_last_timestep():
    """alpha_bar_T is 4.0e-5 for the linear schedule (Ho et al. 2020) and smaller for cosine."""
    assert alphas_cumprod(LINEAR)[-1] == pytest.approx(4.0358e-5, rel=1e-4)
    assert make_schedule(LINEAR).log_snr[-1] == pytest.approx(-10.1177, abs=1e-4)
    assert 0 < alphas_cumprod(COSINE)[-1] < 1e-8
    for config in (LINEAR, COSINE):
        assert (np.diff(make_schedule(config).log_snr) < 0).all()


def test_a_single_timestep_is_accepted():
    schedule = make_schedule(DiffusionConfig(num_timesteps=1))
    assert schedule.betas == np.float32(1e-4)
    assert np.isfinite(schedule.posterior_log_variance).all()


def test_decreasing_betas_and_betas_of_one_are_refused():
    for last in (1e-5, 1.0):
        with pytest.raises(UserError, match=r"beta_end: .* at least `beta_start` 0.0001"):
            DiffusionConfig(beta_end=last)


@pytest.mark.peers
@pytest.mark.parametrize(("config", "name"), [(LINEAR, "linear"), (COSINE, "squaredcos_cap_v2")])
def test_alphas_cumprod_equal_diffusers(config, name):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(beta_schedule=name)
    np.testing.assert_allclose(make_schedule(config).betas, theirs.betas, rtol=3e-5)
    np.testing.assert_allclose(alphas_cumprod(config), theirs.alphas_cumprod, rtol=3e-4, atol=1e-6)
