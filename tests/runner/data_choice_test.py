"""A lab that reads no `dataset` refuses it; runs that stored one stay readable."""

import dataclasses

import pytest

import jaxlabs as jl
from jaxlabs import labs
from jaxlabs.config import UserError
from jaxlabs.runner import cli

LINE = "dataset: not accepted; spirals has no choice of data sets, leave it out"


@pytest.fixture(scope="module")
def lab(spirals):
    return labs.load(spirals)


@pytest.fixture(scope="module")
def run(lab, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return jl.train(lab, steps=1, hidden_size=2, workdir=folder)


@pytest.mark.parametrize("flag", ["--dataset=x", "--vary=dataset=a,b"])
@pytest.mark.parametrize("mode", ["train", "evaluate"])
def test_command_refuses_a_data_set_in_one_line(lab, run, flag, mode, capsys):
    assert cli.run(lab, [flag, f"--mode={mode}", f"--workdir={run.path}"]) == 2
    assert capsys.readouterr().err == f"spirals: --{LINE}\n"


def test_calls_refuse_a_data_set(lab, run):
    for call in (jl.train, lambda lab, **given: jl.load_run(run.path, lab=lab, **given)):
        with pytest.raises(UserError, match=f"^{LINE}$"):
            call(lab, dataset="x")


def test_help_shows_the_data_set_of_labs_that_read_it_alone(lab, capsys):
    for shown, one in ((False, lab), (True, labs.load("gpt"))):
        assert cli.run(one, ["--help"]) == 0
        assert ("--dataset=" in capsys.readouterr().out) == shown


def test_run_that_stored_a_data_set_is_evaluated_and_repeated(lab, tmp_path):
    earlier = dataclasses.replace(lab, presets={"quick": {"dataset": "x", "hidden_size": 2}})
    expected = jl.train(earlier, steps=1, workdir=tmp_path / "run").evaluate()
    assert jl.load_run(tmp_path / "run", lab=lab).evaluate() == expected
    again = jl.train(lab, config=tmp_path / "run/config.json", workdir=tmp_path / "again")
    assert again.evaluate() == expected
