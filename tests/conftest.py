"""One strict setting for all tests: virtual devices, no implicit broadcasting over ranks.

Warnings are errors by pyproject.toml. The hash seed of the test process itself cannot be changed
from here (Python reads it before any code runs), so `.ci/run` sets it; subprocesses get it here.
"""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

# A shell lets what it starts in the background ignore Ctrl-C, which some tests send to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)

PLATFORM = os.environ.get("JAXLABS_TEST_PLATFORM", "cpu")
os.environ.setdefault("PYTHONHASHSEED", "0")

# Through jax.config and not XLA_FLAGS, so that a command started by a test sees the machine as a
# user's command would: with one CPU device.
jax.config.update("jax_platforms", PLATFORM)
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
# The older of XLA's two ways to write loops, where there are two, compiles a test's many small
# programs in two thirds of the time. Commands in processes of their own, and regression_test.py,
# take the default one.
XLA_FLAGS = "--xla_cpu_collective_call_terminate_timeout_seconds=600"
if jax.__version_info__ < (0, 11):
    XLA_FLAGS += " --xla_cpu_use_fusion_emitters=false"
# Four devices share few cores here: with many programs under way at once on a busy machine, threads
# wait for each other in a collective until XLA gives up after 40 seconds and aborts the process.
jax.config.update("jax_cpu_enable_async_dispatch", False)
# Nor may all threads that the four share be taken by those that wait: XLA makes one a device, twice
# as many are asked for. It reads all this when the first device is asked for; commands that tests
# start do not get it.
with pytest.MonkeyPatch.context() as patience:
    if PLATFORM == "cpu":
        patience.setenv("PJRT_NPROC", "8")
        patience.setenv("XLA_FLAGS", f"{os.environ.get('XLA_FLAGS', '')} {XLA_FLAGS}")
    jax.devices()


def pytest_report_header() -> str:
    return f"jax {jax.__version__}, platform {PLATFORM}, devices {jax.device_count()}"


@pytest.fixture(autouse=True)
def whole_reports(request, caplog) -> Iterator[None]:
    """Fails a test whose report left something out, which would hide a fault of the drawing.

    Tests of damaged files set `ABOUT_DAMAGE` in their module.
    """
    yield
    if not getattr(request.module, "ABOUT_DAMAGE", False):
        records = [*caplog.get_records("setup"), *caplog.get_records("call")]
        said = [record.getMessage() for record in records]
        assert not [line for line in said if line.startswith("left out of the report")]


@pytest.fixture
def key() -> jax.Array:
    """A fixed PRNG key."""
    return jax.random.key(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of the published data sets; skips the test where there is none."""
    folder = os.environ.get("JAXLABS_DATA_DIR")
    if not folder:
        pytest.skip("needs real data: JAXLABS_DATA_DIR is not set")
    if not Path(folder).is_dir():
        pytest.skip(f"needs real data: JAXLABS_DATA_DIR={folder} is not a folder")
    return Path(folder)


@pytest.fixture(scope="session")
def executables(tmp_path_factory) -> Path:
    """A folder for compiled programs, which tests that start a command many times keep there."""
    return tmp_path_factory.mktemp("executables")


@pytest.fixture(scope="module")
def reused_executables(executables) -> Iterator[None]:
    """Compiles every program once for all tests that ask for this."""
    settings = {
        "jax_compilation_cache_dir": str(executables),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for values in (settings, before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # whether there is one is looked up only once
        if values is settings:
            yield


@pytest.fixture(scope="module")
def quickly_compiled() -> Iterator[None]:
    """Compiles without optimizing, where compiling takes nearly all the time of the tests."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def play(tmp_path_factory) -> Path:
    """A text file in the manner of tiny Shakespeare: 2,700 characters, 26 distinct ones."""
    words = "the king and queen of all men shall come to war with me , not for gold but love"
    choose = np.random.default_rng(0).choice
    speeches = ["ROMEO:\n" + " ".join(choose(words.split(), 9)) for _ in range(60)]
    path = tmp_path_factory.mktemp("text") / "play.txt"
    path.write_text("\n".join(speeches))
    return path


@pytest.fixture(scope="session")
def tiny_flags(play) -> list[str]:
    """Flags of experiments/gpt.py that make a run of seconds."""
    # On top of the reference, whose settings stay what they are.
    model = (
        "--preset=reference --context_length=16 --embed_dim=16 --mlp_dim=16 --num_layers=1"
        " --num_heads=2"
    )
    batches = "--batch_size=4 --grad_accum_steps=1 --eval_batch_size=64"
    pace = "--eval_every=4 --checkpoint_every=4 --log_every=2"
    return f"--dataset={play} {model} {batches} {pace} --max_new_tokens=8".split()
