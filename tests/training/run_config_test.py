"""Tests of jaxlabs/training/run_config.py."""

from jaxlabs.training.run_config import CommonConfig


def test_seeds_are_consecutive_and_valid():
    assert CommonConfig(seed=3).seeds_from(2) == [3, 4]
    for seed in CommonConfig(seed=2**32 - 1).seeds_from(3):
        assert CommonConfig(seed=seed).seed == seed
