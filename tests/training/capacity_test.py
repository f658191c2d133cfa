"""Too large allocations are refused in advance, in one line with the sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.training import capacity
from jaxlabs.training.capacity import TooLarge

DEVICES = jax.local_device_count()


@pytest.fixture
def machine(monkeypatch):
    """`machine(bytes)` sets the memory of this machine."""
    return lambda size: monkeypatch.setattr(capacity, "host_memory", lambda: size)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="CPU devices share the machine's memory")
def test_copies_of_all_devices_must_fit_together(machine):
    machine(12_000_000_000)
    capacity.require(12_000_000_000 // DEVICES, "the state")
    with pytest.raises(TooLarge, match=r"^the state needs 20\.0 GB; this machine has 12\.0 GB$"):
        capacity.require(20_000_000_000 // DEVICES, "the state")


def test_container_limit_bounds_the_memory(monkeypatch, tmp_path):
    whole = capacity.host_memory()
    for text, expected in (("max\n", whole), ("1000000\n", 1_000_000), (f"{2**63}\n", whole)):
        (tmp_path / "memory.max").write_text(text)
        monkeypatch.setattr(capacity, "CGROUP_LIMITS", (str(tmp_path / "memory.max"), "/nowhere"))
        assert capacity.host_memory() == expected


def test_only_materialized_arrays_count_before_compilation():
    x = jax.ShapeDtypeStruct((10**6, 10**3), np.float32)

    def fused(x):
        return jnp.sum(
            x[:, None, :] > x[None, :, :]
        )  # XLA never materializes these 10 ** 15 booleans

    capacity.require_arrays(jax.jit(fused).trace(x), "a comparison")
    scan = jax.jit(lambda x: jax.lax.scan(lambda carry, row: (carry, x @ row), 0, x)[1])
    for function in (jax.jit(lambda x: x @ x.T), scan):
        with pytest.raises(TooLarge, match=r"^all products needs"):
            capacity.require_arrays(function.trace(x), "all products")
        # An array of 4 TB fits on so many devices.
        capacity.require_arrays(function.trace(x), "all products", 10**6)


def test_compiled_program_counts_arguments_results_and_temporaries(machine):
    size = 1000
    x = jax.ShapeDtypeStruct((size, size), np.float32)
    compiled = jax.jit(lambda x: jnp.linalg.norm(x @ x, axis=0)).lower(x).compile()
    machine(DEVICES * 2 * size * size * 4 + 10**6)
    capacity.require_program(compiled, "a product")
    machine(DEVICES * size * size * 4)
    with pytest.raises(TooLarge, match=r"^a product needs"):
        capacity.require_program(compiled, "a product")


def test_out_of_memory_errors_become_one_line():
    error = jax.errors.JaxRuntimeError(
        "RESOURCE_EXHAUSTED: Out of memory allocating 5000000000 bytes."
    )
    assert capacity.in_a_line(error) == "out of memory; 5.0 GB more needed"
    assert capacity.in_a_line(MemoryError()) == "out of memory"
    assert capacity.in_a_line(TooLarge("the state needs more")) == "the state needs more"
    for raises in (lambda: np.empty(2**62, "f8"), lambda: np.empty(2**45, "f8")):
        with pytest.raises((ValueError, MemoryError)) as caught:
            raises()
        assert "\n" not in capacity.in_a_line(caught.value)
    assert capacity.in_a_line(ValueError("something else")) is None
    assert capacity.in_a_line(jax.errors.JaxRuntimeError("INTERNAL: something else")) is None
