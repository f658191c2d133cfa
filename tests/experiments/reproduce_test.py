"""The real collection holds every lab; worked_problems_test runs one of them to a table."""

import importlib.util

from experiments import reproduce


def test_every_lab_has_its_turn_and_a_command_of_its_name():
    labs = dict(reproduce.labs())
    expected = {"gpt", "ddpm", "attention", "rnn_dynamics", "worked_problems", "sparse_autoencoder"}
    assert expected <= labs.keys()
    assert not labs.keys() & set(reproduce.NO_LABS)
    assert set(reproduce.MAIN) <= labs.keys()
    for name, lab in labs.items():
        assert importlib.util.find_spec(f"experiments.{name}") is not None, name
        assert next(iter(lab.presets)) == "quick", name
