import math

import jax.numpy as jnp
import jax.random
import numpy as np
import pytest
from scipy.stats import norm

from jaxlabs.analysis.diffusion_likelihood import cut_times, estimate, gray_log_likelihood
from jaxlabs.diffusion import forward_process
from jaxlabs.diffusion.noise_schedules import DiffusionConfig, alphas_cumprod, make_schedule

SHAPE = (2, 2, 1)
FOUR = DiffusionConfig(num_timesteps=4, beta_start=0.05, beta_end=0.6)
FORTY = DiffusionConfig(num_timesteps=40, beta_start=0.01, beta_end=0.2, prediction_type="v")


def sees(guess, diffusion, x, t):
    """What a network puts out that takes every noisy picture for the same one."""
    schedule = make_schedule(diffusion)
    signal = forward_process.at(schedule.sqrt_alpha_bars, t, x)
    noise = (x - signal * guess) / forward_process.at(schedule.sqrt_one_minus_alpha_bars, t, x)
    return forward_process.target(
        schedule, jnp.broadcast_to(guess, x.shape), noise, t, diffusion.prediction_type
    )


def sees_in_four(guess, x, t, condition):
    return sees(guess, FOUR, x, t)


def sees_in_forty(guess, x, t, condition):
    return sees(guess, FORTY, x, t)


def by_hand(x0, seen, diffusion, variance):
    """Bits per dimension of every time and of the prior, pixel by pixel as in the papers."""
    left, bits = alphas_cumprod(diffusion), []
    before = np.append(1, left[:-1])
    beta = 1 - left / before
    posterior = beta * (1 - before) / (1 - left)
    for t in range(len(left)):
        ours = (posterior if variance == "posterior" else beta)[t] if t else posterior[1]
        total = 0.0
        for pixel, guess in zip(x0.ravel(), seen.ravel(), strict=True):
            if t:
                apart = math.sqrt(before[t]) * beta[t] / (1 - left[t]) * (pixel - guess)
                total += math.log(ours / posterior[t]) / 2 - 0.5
                total += (posterior[t] + apart**2) / (2 * ours)
            else:
                edges = pixel - 1 / 255, pixel + 1 / 255
                low = 0 if pixel < -0.999 else norm.cdf(edges[0], guess, math.sqrt(ours))
                high = 1 if pixel > 0.999 else norm.cdf(edges[1], guess, math.sqrt(ours))
                total -= math.log(max(high - low, 1e-12))
        bits.append(total / x0.size / math.log(2))
    prior = (left[-1] * x0**2 + (1 - left[-1]) - 1 - math.log(1 - left[-1])) / 2
    return np.array(bits), prior.mean() / math.log(2)


def pictures(count):
    drawn = np.random.default_rng(0).integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    drawn[0, 0], drawn[1, 0] = 0, 255
    return drawn


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_bound_over_all_times_equals_a_loop_over_pixels(variance):
    images = pictures(3)
    guess = jnp.array([-0.9, 0.2, 0.4, -0.3]).reshape(1, *SHAPE)
    setup = {"diffusion": FOUR, "variance": variance, "strata": 9, "batch_size": 2}
    bound = estimate(sees_in_four, guess, images, jax.random.key(0), **setup)
    x0 = images / 127.5 - 1
    found = [by_hand(one, np.asarray(guess[0]), FOUR, variance) for one in x0]
    by_time = np.array([bits for bits, _ in found])
    np.testing.assert_allclose(bound.bits_by_time, by_time.mean(axis=0), rtol=2e-4)
    np.testing.assert_array_equal(bound.times, range(4))
    totals = np.array([bits.sum() + prior for bits, prior in found])
    assert bound.bits == pytest.approx(totals.mean(), rel=2e-4)
    assert bound.standard_error == pytest.approx(totals.std(ddof=1) / 3**0.5, rel=1e-3)
    assert bound.prior == pytest.approx(np.mean([prior for _, prior in found]), rel=1e-4)
    assert bound.decoder == bound.bits_by_time[0]


def test_strata_estimate_the_sum_over_all_times_within_their_error():
    images = np.broadcast_to(pictures(2)[1:], (400, *SHAPE))
    guess = jnp.array([-0.9, 0.2, 0.4, -0.3]).reshape(1, *SHAPE)
    setup = {"diffusion": FORTY, "variance": "beta", "strata": 5, "batch_size": 400}
    bound = estimate(sees_in_forty, guess, images, jax.random.key(1), **setup)
    bits, prior = by_hand(images[0] / 127.5 - 1, np.asarray(guess[0]), FORTY, "beta")
    assert 0 < bound.standard_error < 0.05 * bound.bits
    assert abs(bound.bits - bits.sum() - prior) < 4 * bound.standard_error
    # In v, an error of the picture is one of the output over the root of 1 - alpha bar.
    off = np.mean((images[0] / 127.5 - 1 - np.asarray(guess[0])) ** 2)
    expected = off / (1 - alphas_cumprod(FORTY)[0])
    assert bound.squared_error[0] == pytest.approx(expected, rel=1e-3)


def test_strata_hold_every_time_once_and_time_zero_alone():
    for count, strata in ((1000, 50), (10, 10), (4, 9), (7, 2), (1, 5)):
        edges = cut_times(count, strata)
        assert (edges[0], edges[1], edges[-1]) == (0, 1, count)
        assert (np.diff(edges) > 0).all()
        assert len(edges) == min(count, strata) + 1


def test_probabilities_of_all_gray_values_add_up_to_one():
    values = np.arange(256, dtype=np.float32) / np.float32(127.5) - 1
    for mean, deviation in ((0.3, 0.01), (-1.05, 0.2), (0.99, 0.5)):
        nats = gray_log_likelihood(jnp.asarray(values), jnp.float32(mean), jnp.float32(deviation))
        assert jnp.exp(nats).sum() == pytest.approx(1, abs=2e-5)
    far = gray_log_likelihood(jnp.float32(0.9), jnp.float32(-0.9), jnp.float32(1e-3))
    assert far == pytest.approx(math.log(1e-12))
