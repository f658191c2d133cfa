"""Strict settings for all tests: virtual devices, no implicit rank promotion.

Warnings are errors by pyproject.toml. The hash seed of the test process cannot be set here (Python
reads it at its start), so `.ci/run` sets it; subprocesses get it from here.
"""

import os
import re
import runpy
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxlabs.layers.cpu import dispatch
from jaxlabs.runner import new

# In a background process of a shell SIGINT is ignored, but some tests send it to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)

if not hasattr(os, "mkfifo"):
    os.mkfifo = lambda path: pytest.skip("Windows has no FIFOs")

PLATFORM = os.environ.get("JAXLABS_TEST_PLATFORM", "cpu")
if PLATFORM != "cpu":  # the commands that tests start use the same accelerator
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.setdefault("PYTHONHASHSEED", "0")

# Tests and the commands that they start compile into a folder of this process, not into the user's.
COMPILED = tempfile.TemporaryDirectory(prefix="jaxlabs-compiled-")
os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
jax.config.update("jax_compilation_cache_dir", COMPILED.name)

# With jax.config and not XLA_FLAGS, so that commands started by tests have one CPU device, as a
# user's command.
jax.config.update("jax_platforms", PLATFORM)
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Without fusion emitters, where they are optional, the many small programs of the tests compile in
# two thirds of the time. Commands in subprocesses, and regression_test.py, use the default.
XLA_FLAGS = "--xla_cpu_collective_call_terminate_timeout_seconds=600"
if jax.__version_info__ < (0, 11):
    XLA_FLAGS += " --xla_cpu_use_fusion_emitters=false"
# Four devices share few cores: with many concurrent programs on a busy machine, threads wait in a
# collective until XLA aborts the process after 40 seconds.
jax.config.update("jax_cpu_enable_async_dispatch", False)
# Waiting threads must not occupy the whole thread pool, which has one thread per device by default;
# twice as many are requested. XLA reads this at its initialization; commands started by tests do
# not get it.
with pytest.MonkeyPatch.context() as patch:
    if PLATFORM == "cpu":
        patch.setenv("PJRT_NPROC", "8")
        patch.setenv("XLA_FLAGS", f"{os.environ.get('XLA_FLAGS', '')} {XLA_FLAGS}")
    jax.devices()


@pytest.fixture(scope="session")
def copy_parameters():
    """The function of torch_parameters.py."""
    pytest.importorskip("torch")
    return runpy.run_path(str(Path(__file__).parent / "torch_parameters.py"))["copy_parameters"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks as slow the tests of slow.txt, which took more than two seconds on two cores.

    `pytest -m "slow or not slow" --durations=0` measures them again.
    """
    names = set((Path(__file__).parent / "slow.txt").read_text(encoding="utf-8").splitlines())
    for item in items:
        if item.nodeid in names:
            item.add_marker(pytest.mark.slow)


def pytest_report_header() -> str:
    return f"jax {jax.__version__}, platform {PLATFORM}, devices {jax.device_count()}"


@pytest.fixture(autouse=True, scope="session")
def own_state(tmp_path_factory) -> Iterator[None]:
    """Keeps the record of the labs that tests run out of the user's home directory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def whole_reports(request, caplog) -> Iterator[None]:
    """Fails a test whose report omits a figure, which would hide an error of the plot.

    Modules with tests of damaged files set `ABOUT_DAMAGE`.
    """
    yield
    if not getattr(request.module, "ABOUT_DAMAGE", False):
        records = [*caplog.get_records("setup"), *caplog.get_records("call")]
        messages = [record.getMessage() for record in records]
        assert not [line for line in messages if line.startswith("skipped in the report")]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working directory; folders of labs that a test adds to `sys.path` are removed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


@pytest.fixture
def key() -> jax.Array:
    """A fixed PRNG key."""
    return jax.random.key(0)


CUSTOM_CALLS = {"Sharding", "SPMDFullToShardShape", "SPMDShardToFullShape"}
"""What XLA replaces on every platform."""


@pytest.fixture(scope="session")
def lower_elsewhere() -> Callable[..., str]:
    """`lower_elsewhere(jitted, *arguments)`: its StableHLO for NVIDIA GPUs and TPUs, checked.

    A primitive without a lowering for one of them is an error. The program has no form of CPUs, no
    float64, and no call of a library of this machine.
    """

    def lower(jitted, *arguments):
        text = jax.export.export(jitted, platforms=("cuda", "tpu"))(*arguments).mlir_module()
        assert dispatch.CPU_SCOPE not in text
        assert not re.search(r"\bf64\b", text)
        assert {*re.findall(r"custom_call @([\w.$]+)", text)} <= CUSTOM_CALLS
        return text

    return lower


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the real data sets; skips the test if there is none."""
    folder = os.environ.get("JAXLABS_DATA_DIR")
    if not folder:
        pytest.skip("needs real data: JAXLABS_DATA_DIR is not set")
    if not Path(folder).is_dir():
        pytest.skip(f"needs real data: JAXLABS_DATA_DIR={folder} is not a folder")
    return Path(folder)


@pytest.fixture(scope="session")
def executables(tmp_path_factory) -> Path:
    """A compilation cache for tests that start many commands."""
    return tmp_path_factory.mktemp("executables")


@pytest.fixture(scope="module")
def reused_executables(executables) -> Iterator[None]:
    """Caches executables across all tests that use this fixture."""
    settings = {
        "jax_compilation_cache_dir": str(executables),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for values in (settings, before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # its existence is checked only once
        if values is settings:
            yield


@pytest.fixture(scope="module")
def quickly_compiled() -> Iterator[None]:
    """Compiles without optimizations, for tests dominated by compilation."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def play(tmp_path_factory) -> Path:
    """A text file similar to tiny Shakespeare: 2,700 characters, 26 distinct ones."""
    words = "the king and queen of all men shall come to war with me , not for gold but love"
    choose = np.random.default_rng(0).choice
    speeches = ["ROMEO:\n" + " ".join(choose(words.split(), 9)) for _ in range(60)]
    path = tmp_path_factory.mktemp("text") / "play.txt"
    path.write_text("\n".join(speeches))
    return path


@pytest.fixture(scope="session")
def spirals(tmp_path_factory) -> Path:
    """The file of a lab as `jaxlabs new spirals` writes it, in a folder of its own."""
    return new.write("spirals", tmp_path_factory.mktemp("labs"))[0]


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """`free_port() -> int`: a port of this machine that nothing uses."""

    def port():
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            return probe.getsockname()[1]

    return port


@pytest.fixture(scope="session")
def slurm_variables() -> Callable[[int, int, int], dict[str, str]]:
    """`slurm_variables(count, number, port)`: what `srun` sets in one of several tasks.

    The port is not Slurm's: JAX derives it from the job.
    """

    def variables(count, number, port):
        return {
            "SLURM_JOB_ID": "7",
            "SLURM_STEP_NODELIST": "localhost",
            "SLURM_NTASKS": str(count),
            "SLURM_PROCID": str(number),
            "SLURM_LOCALID": str(number),
            "JAX_COORDINATOR_PORT": str(port),
        }

    return variables


@pytest.fixture(scope="session")
def tiny_flags(play) -> list[str]:
    """Flags of experiments/gpt.py for a run of seconds."""
    # On top of the preset `reference`, which does not change.
    model = (
        "--preset=reference --context_length=16 --embed_dim=16 --mlp_dim=16 --num_layers=1"
        " --num_heads=2"
    )
    batches = "--batch_size=4 --grad_accum_steps=1 --eval_batch_size=64"
    intervals = "--eval_every=4 --checkpoint_every=4 --log_every=2"
    return f"--dataset={play} {model} {batches} {intervals} --max_new_tokens=8".split()
