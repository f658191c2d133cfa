"""One strict setting for all tests: virtual devices, no implicit broadcasting over ranks.

Warnings are errors by pyproject.toml. The hash seed of the test process itself cannot be changed
from here (Python reads it before any code runs), so `.ci/run` sets it; subprocesses get it here.
"""

import os
from pathlib import Path

import jax
import pytest

PLATFORM = os.environ.get("JAXLABS_TEST_PLATFORM", "cpu")
os.environ.setdefault("PYTHONHASHSEED", "0")

# Through jax.config and not XLA_FLAGS, so that a command started by a test sees the machine as a
# user's command would: with one CPU device.
jax.config.update("jax_platforms", PLATFORM)
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_report_header() -> str:
    return f"jax {jax.__version__}, platform {PLATFORM}, devices {jax.device_count()}"


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
