"""`jaxlabs check`: a right lab passes every line, and each fault fails on its own."""

import argparse
import dataclasses
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxlabs as jl
from jaxlabs import labs
from jaxlabs.config import UserError
from jaxlabs.labs.gpt.lab import LAB as GPT
from jaxlabs.runner import check, check_sampler
from jaxlabs.runner.check_result import FAIL, PASS, SKIP, Row, make_row
from jaxlabs.runner.check_setup import make_setup
from jaxlabs.runner.lab_source import ENTRY_POINT, LabSource
from jaxlabs.training.checks import Failed

NAMES = (
    "overfits one batch",
    "gradient accumulation",
    "gradient check",
    "sampler",
    "sampler traceable",
    "compiles once",
    "resumes in a new process",
    "data parallelism",
)
SMALL = ["--hidden_size=8"]


def run(path, *flags):
    """Returns the exit status and the verdicts of a command in a new process."""
    command = [sys.executable, "-m", "jaxlabs", "check", str(path), *SMALL, *flags]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert ended.stderr == ""
    lines = ended.stdout.splitlines()
    return ended.returncode, {
        name: line.split()[0] for name, line in zip(NAMES, lines, strict=True)
    }


@pytest.mark.slow
def test_new_lab_passes_every_line(spirals):
    assert run(spirals) == (0, dict.fromkeys(NAMES, PASS))


FAULTS = """
import dataclasses
import os
import spirals
from spirals import jl, np, jax

NOISE = np.float32(int.from_bytes(os.urandom(4), "big") / 2**40)

def loss(model, variables, batch, key, **options):
    output = spirals.loss(model, variables, batch, key, **options)
    return output._replace(loss_sum=output.loss_sum * (1 + NOISE))

train_step = jl.build_train_step(loss)

def build_task(config, data_spec):
    task = spirals.build_task(config, data_spec)
    return dataclasses.replace(task, loss=loss, train_step=train_step, batch_coupled=True)

def sample(config, task, data_spec, state, key):
    program = jax.jit(lambda key: jax.random.normal(key, (3,)))
    return {"images": np.asarray(program(key))}

LAB = dataclasses.replace(spirals.LAB, name="faulty", build_task=build_task, sample=sample)
"""


@pytest.mark.slow
def test_random_number_without_a_seed_and_a_compiling_sampler_fail_on_their_lines(spirals):
    faulty = spirals.parent / "faulty.py"
    faulty.write_text(FAULTS)
    status, verdicts = run(faulty)
    assert status == 1
    expected = dict.fromkeys(NAMES, PASS)
    expected |= {"gradient accumulation": SKIP, "sampler": FAIL}
    assert verdicts == expected | {"resumes in a new process": FAIL}


@pytest.fixture
def setup(spirals):
    """`setup(sample)`: the new lab with another sampler."""
    lab = labs.load(spirals)

    def make(sample):
        invocation = check._parse(dataclasses.replace(lab, sample=sample), SMALL)
        return make_setup(invocation)

    return make


def test_sampler_must_be_a_function_of_the_key(setup):
    random = np.random.default_rng(0)
    with pytest.raises(Failed, match=r"^two samples with one key differ$"):
        check_sampler.one_key_gives_one_sample(setup(lambda *_: {"images": random.normal(size=3)}))


@pytest.mark.parametrize("sampled", ["text", {"images": np.zeros((2, 3))}], ids=["text", "arrays"])
def test_sampler_of_text_or_arrays_passes(setup, sampled):
    arrays = sampled if isinstance(sampled, str) else jax.device_put(sampled)
    assert check_sampler.one_key_gives_one_sample(setup(lambda *_: arrays)).startswith(
        "one key gives one sample"
    )


def test_sampler_must_not_compile_for_every_key(setup):
    def sample(config, task, data_spec, state, key):
        return {"images": np.asarray(jax.jit(lambda key: jax.random.normal(key, (7,)))(key))}

    with pytest.raises(Failed, match=r"^another key compiles 1 programs$"):
        check_sampler.one_key_gives_one_sample(setup(sample))


def traced(setup, sample):
    return make_row("sampler traceable", lambda: check_sampler.is_traceable(setup(sample)))


def test_sampler_that_returns_arrays_is_traced_to_its_end(setup):
    def sample(config, task, data_spec, state, key):
        return {"images": task.model.apply({"params": state.params}, np.zeros((3, 2)))}

    row = traced(setup, sample)
    assert (row.verdict, row.text) == (PASS, "traced to its end, float32[3, 2]")


def test_sampler_of_a_text_is_traced_up_to_its_copy_to_the_host(setup):
    def sample(config, task, data_spec, state, key):
        tokens = jax.random.randint(key, (4, 20), 0, 9)
        return "".join(map(str, np.asarray(tokens).ravel()))

    row = traced(setup, sample)
    assert row.verdict == PASS
    line = r"traced up to int32\[4,20\], which check_test.py:\d+ copies to the host"
    assert re.fullmatch(line, row.text)


def test_sampler_that_branches_in_python_on_a_traced_value_fails(setup):
    def sample(config, task, data_spec, state, key):
        tokens = []
        while len(tokens) < 3 or int(tokens[-1]) == 0:
            key, used = jax.random.split(key)
            tokens.append(jax.random.randint(used, (), 0, 2))
        return {"images": np.stack(tokens)}

    row = traced(setup, sample)
    assert row.verdict == FAIL
    assert re.match(r"check_test.py:\d+ needs a value where it is traced: ", row.text)


def test_lab_without_a_sampler_skips_both_lines(setup):
    without = setup(None)
    for action in (check_sampler.one_key_gives_one_sample, check_sampler.is_traceable):
        row = make_row("sampler", lambda: action(without))  # noqa: B023
        assert (row.verdict, row.text) == (SKIP, "the lab has no sampler")


def test_lab_without_a_file_skips_what_needs_other_processes():
    started = check._started(None, None)
    assert [*started] == [*NAMES[5:]]
    assert {make_row(name, action).verdict for name, action in started.items()} == {SKIP}


def test_other_processes_load_a_lab_by_name_or_file(spirals):
    assert check._name_of(labs.load("gpt")) == "gpt"
    assert check._name_of(labs.load(spirals)) == str(spirals)
    installed = LabSource(ENTRY_POINT, "gpt", "/site/package/gpt.py", "0")
    assert check._name_of(GPT.with_source(installed)) == "gpt"
    assert check._name_of(GPT) == "gpt"
    assert check._name_of(dataclasses.replace(GPT, name="other")) is None


def test_changed_copy_of_a_lab_is_not_the_lab_of_its_file(spirals):
    for name in ("gpt", spirals):
        changed = dataclasses.replace(labs.load(name), loss_unit="bits")
        assert changed.source is None
        assert check._name_of(changed) is None


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["worked_problems"], "'worked_problems': a study, which has no training step; a lab is"),
        (["gpt", "--num_layer=1"], "--num_layer: unknown flag; did you mean 'num_layers'?"),
        (["gpt", "--num_heads=x"], "--num_heads: 'x' is not accepted; an integer"),
        (["gpt", "--help"], "--help: not accepted after the lab; before it"),
        (
            ["gpt", "--mode=sample"],
            "--mode: not accepted by check, which trains one run of 4 steps",
        ),
        (["gpt", "--vary=seed=1,2"], "--vary: not accepted by check"),
        (["nothing"], "'nothing': unknown lab"),
    ],
)
def test_command_that_is_not_accepted_gives_one_line(arguments, line):
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    with pytest.raises(UserError) as caught:
        check.run(parser.parse_args(arguments))
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_call_names_arguments_and_leaves_the_process_as_it_was(monkeypatch):
    def rows(invocation, name, show):
        assert invocation.overrides == {"batch_size": 4}
        jax.config.update("jax_default_device", jax.devices()[1])
        return [Row("sampler", PASS, "")]

    monkeypatch.setattr(check, "_rows", rows)
    before = dict(jax.config.values)
    assert jl.check("gpt", batch_size=np.int64(4)).passed
    assert dict(jax.config.values) == before
    for given, line in (
        ({"batch_size": 0}, "batch_size: 0 is not accepted; an integer of at least 1"),
        ({"num_layer": 1}, "num_layer: unknown setting; did you mean 'num_layers'?"),
        ({"preset": "quik"}, "preset: 'quik' is not accepted; one of quick"),
    ):
        with pytest.raises(ValueError, match="^" + re.escape(line)):
            jl.check("gpt", **given)


def test_listener_of_compilations_is_removed():
    with check_sampler.compilations() as found:
        jax.jit(lambda x: x * 3 + 1)(np.ones(7))
    assert found
    count = len(found)
    jax.jit(lambda x: x * 5 - 1)(np.ones(9))
    assert len(found) == count


def test_check_is_a_public_name():
    assert jl.check is check.check
