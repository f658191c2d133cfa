"""The number of seeds that decides a comparison."""

import numpy as np
import pytest
import scipy.stats

from jaxlabs.runner import verdict
from jaxlabs.runner.verdict import power, seeds_needed


@pytest.mark.parametrize("effect", [2.5, 1.0, 0.4])
def test_number_of_seeds_has_the_stated_power_in_a_simulation(effect):
    differences = effect + np.array([-1.0, 1.0]) / np.sqrt(2)  # deviation 1
    count, trials = seeds_needed(differences), 20_000
    samples = np.random.default_rng(0).normal(effect, 1.0, (trials, count))
    found = np.mean(scipy.stats.ttest_1samp(samples, 0.0, axis=1).pvalue < 0.05)
    error = np.sqrt(0.8 * 0.2 / trials)
    assert found > verdict.POWER - 3 * error
    np.testing.assert_allclose(found, power(effect, np.array([count]))[0], atol=4 * error)
    fewer = scipy.stats.ttest_1samp(samples[:, :-1], 0.0, axis=1).pvalue < 0.05
    assert np.mean(fewer) < verdict.POWER + 3 * error


@pytest.mark.parametrize(
    ("differences", "expected"), [([1.0, -1.0], None), ([0.001, -1.0, 1.0], None), ([1.0, 1.0], 2)]
)
def test_no_number_of_seeds_for_no_or_a_tiny_difference(differences, expected):
    assert seeds_needed(differences) == expected
