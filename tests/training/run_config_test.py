"""The settings that every command has."""

from jaxlabs.training.run_config import CommonConfig


def test_seeds_follow_the_one_that_was_given_and_stay_seeds():
    assert CommonConfig(seed=3).seeds_from(2) == [3, 4]
    for seed in CommonConfig(seed=2**32 - 1).seeds_from(3):
        assert CommonConfig(seed=seed).seed == seed
