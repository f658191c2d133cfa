"""`--plan`: bytes per device and FLOPs of a training step, without running it."""

import os
import re
import subprocess
import sys

import jax
import pytest

import jaxlabs
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.runner import cli, plan
from jaxlabs.training import device_settings, devices
from jaxlabs.training.advance import Advance
from jaxlabs.training.initial_state import abstract_state, initial_state
from jaxlabs.training.matmul_flops import matmul_flops

MESH = "fsdp:2,tensor:2"
EMBED_DIM, MLP_DIM = 16, 16


@pytest.fixture(scope="module")
def prepared(tiny_flags):
    """Configuration, data and task of a GPT with one block."""
    config = cli.parse(LAB, [*tiny_flags, "--ema_decay=0.9"]).config()
    data = LAB.load_data(config)
    return config, data, LAB.build_task(config, data.data_spec)


@pytest.fixture(scope="module")
def planned(prepared):
    """`planned(mesh) -> Plan` on four devices."""
    config, data, task = prepared

    def of(mesh):
        placement = devices.mesh_sharding(mesh, jax.devices()[:4])
        return plan.plan(task, config, placement, data)

    return of


@pytest.fixture(scope="module")
def split(planned):
    return planned(MESH)


@pytest.fixture(scope="module")
def program(split):
    return split.compiled("cpu")


def test_bytes_are_those_of_the_parts_of_one_device(split, prepared):
    vocabulary = prepared[2].model.config.vocab_size
    kernels = 4 * (4 * EMBED_DIM**2 + 2 * EMBED_DIM * MLP_DIM)  # over both axes of the mesh
    tables = 4 * 2 * vocabulary * EMBED_DIM  # over fsdp
    biases = 4 * (2 * 2 * EMBED_DIM + 2 * EMBED_DIM + 2 * EMBED_DIM + vocabulary)
    parameters = kernels // 4 + tables // 2 + biases + 4 * MLP_DIM // 2
    assert split.parameters == parameters
    assert split.ema == parameters
    assert 0 <= split.optimizer - 2 * parameters <= 16  # two moments, and counts of steps
    tokens = prepared[1].train.tokens
    assert split.data == tokens.nbytes
    assert split.num_parameters == (kernels + tables + biases) // 4 + MLP_DIM


def test_total_is_that_of_arrays_and_temporaries(split, program):
    arrays = split.parameters + split.optimizer + split.ema + split.data
    assert program.temporaries + arrays <= sum(program) < program.temporaries + arrays + 20_000


def test_flops_are_those_of_the_training_step(split, prepared):
    config, data, task = prepared
    placement = devices.data_parallel(jax.devices()[:1])
    state = abstract_state(task, config, placement)
    batch = jax.eval_shape(lambda: data.train.batch_at(0, 0, config.batch_size))
    step = lambda *arguments: task.step(*arguments)  # noqa: E731
    assert split.flops == matmul_flops(step, state, batch, jax.random.key(0)) > 0


def test_memory_of_a_device_falls_with_the_mesh(split, program, planned):
    replicated, whole = planned("data:4"), planned("fsdp:4")
    assert replicated.parameters == 4 * replicated.num_parameters
    assert whole.parameters < 0.4 * replicated.parameters
    assert split.parameters < 0.5 * replicated.parameters
    assert whole.optimizer < 0.4 * replicated.optimizer
    saved = 0.6 * (replicated.parameters + replicated.optimizer + replicated.ema)
    total = sum(replicated.compiled("cpu"))
    assert sum(whole.compiled("cpu")) < total - saved
    assert sum(program) < total


def test_plan_equals_what_the_run_compiles(program, prepared):
    config, data, task = prepared
    placement = devices.mesh_sharding(MESH, jax.devices()[:4])
    advance = Advance(task, config, placement, data.train)
    advance.compile(initial_state(task, config, placement))
    assert sum(advance.memory) == pytest.approx(sum(program), rel=0.05)


def test_command_prints_the_plan_of_more_devices_than_there_are(tiny_flags, tmp_path):
    """In another process, which has not started JAX."""
    flags = [*tiny_flags, "--batch_size=8", "--plan", "--mesh=fsdp:8"]
    command = [sys.executable, "-m", "experiments.gpt", *flags]
    root = os.path.dirname(os.path.dirname(jaxlabs.__file__))
    environment = os.environ | {"PYTHONPATH": root}
    options = {"capture_output": True, "text": True, "cwd": tmp_path, "env": environment}
    done = subprocess.run(command, check=True, **options)
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())
    heading, flops, _, *rows = done.stdout.splitlines()
    assert re.fullmatch(r"[\d,]+ parameters, 8 devices: data 1, fsdp 8, tensor 1", heading)
    assert re.fullmatch(r"FLOPs per step of 8 examples: [\d.e+]+, [\d.e+]+ per device", flops)
    assert [row.split("  ")[1] for row in rows] == [
        "parameters",
        "optimizer",
        "data",
        "activations, gradients, workspace (compiled for CPU)",
        "total (compiled for CPU)",
    ]


def test_plan_has_the_micro_batches_of_a_run_on_the_devices(tiny_flags, monkeypatch):
    flags = [flag for flag in tiny_flags if not flag.startswith("--grad_accum_steps")]
    planned = []

    def captured(task, config, placement, data):
        planned.append(config.optimization.grad_accum_steps)

    monkeypatch.setattr(plan, "plan", captured)
    monkeypatch.setattr(plan, "_lines", lambda *_: [])
    resolve = device_settings.resolve
    monkeypatch.setattr(device_settings, "resolve", lambda *given: resolve(*given[:-1], "gpu"))
    for more in ([], ["--grad_accum_steps=2"]):
        size = f"--batch_size={2 * jax.device_count()}"
        assert cli.run(LAB, [*flags, size, "--plan", *more]) == 0
    assert planned == [1, 2]


def test_plan_is_refused_with_another_mode(capsys):
    assert cli.run(LAB, ["--plan", "--mode=sample"]) == 2
    line = "gpt: --plan: not accepted with --mode=sample; without a mode\n"
    assert capsys.readouterr().err == line


def test_sizes_have_a_unit():
    found = [plan._readable(size) for size in (0, 999, 1000, 62_640_000, 1.9e10)]
    assert found == ["0 B", "999 B", "1.00 kB", "62.64 MB", "19.00 GB"]
