"""What does not fit into memory is refused before it is taken, in a line that says how much."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.training import capacity
from jaxlabs.training.capacity import TooLarge

DEVICES = jax.local_device_count()


@pytest.fixture
def machine(monkeypatch):
    """`machine(bytes)` makes this one of so much memory."""
    return lambda size: monkeypatch.setattr(capacity, "host_memory", lambda: size)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="CPU devices share the machine's memory")
def test_the_copies_of_all_devices_together_have_to_fit(machine):
    machine(12_000_000_000)
    capacity.require(12_000_000_000 // DEVICES, "the state")
    with pytest.raises(TooLarge, match=r"^the state needs 20\.0 GB; this machine has 12\.0 GB$"):
        capacity.require(20_000_000_000 // DEVICES, "the state")


def test_a_container_has_no_more_memory_than_its_limit(monkeypatch, tmp_path):
    whole = capacity.host_memory()
    for text, expected in (("max\n", whole), ("1000000\n", 1_000_000), (f"{2**63}\n", whole)):
        (tmp_path / "memory.max").write_text(text)
        monkeypatch.setattr(capacity, "CGROUP_LIMITS", (str(tmp_path / "memory.max"), "/nowhere"))
        assert capacity.host_memory() == expected


def test_only_what_has_to_be_written_counts_before_a_program_is_compiled():
    x = jax.ShapeDtypeStruct((10**6, 10**3), np.float32)

    def fused(x):
        return jnp.sum(x[:, None, :] > x[None, :, :])  # XLA never writes these 10 ** 15 booleans

    capacity.require_arrays(jax.jit(fused).trace(x), "a comparison")
    scan = jax.jit(lambda x: jax.lax.scan(lambda carry, row: (carry, x @ row), 0, x)[1])
    for function in (jax.jit(lambda x: x @ x.T), scan):
        with pytest.raises(TooLarge, match=r"^all products needs"):
            capacity.require_arrays(function.trace(x), "all products")


def test_a_compiled_program_counts_with_its_arguments_results_and_temporaries(machine):
    size = 1000
    x = jax.ShapeDtypeStruct((size, size), np.float32)
    compiled = jax.jit(lambda x: jnp.linalg.norm(x @ x, axis=0)).lower(x).compile()
    machine(DEVICES * 2 * size * size * 4 + 10**6)
    capacity.require_program(compiled, "a product")
    machine(DEVICES * size * size * 4)
    with pytest.raises(TooLarge, match=r"^a product needs"):
        capacity.require_program(compiled, "a product")


def test_what_ran_out_of_memory_is_told_in_one_line():
    error = jax.errors.JaxRuntimeError(
        "RESOURCE_EXHAUSTED: Out of memory allocating 5000000000 bytes."
    )
    assert capacity.in_a_line(error) == "out of memory; 5.0 GB more are needed"
    assert capacity.in_a_line(MemoryError()) == "out of memory"
    assert capacity.in_a_line(TooLarge("the state needs more")) == "the state needs more"
    for raises in (lambda: np.empty(2**62, "f8"), lambda: np.empty(2**45, "f8")):
        with pytest.raises((ValueError, MemoryError)) as caught:
            raises()
        assert "\n" not in capacity.in_a_line(caught.value)
    assert capacity.in_a_line(ValueError("something else")) is None
    assert capacity.in_a_line(jax.errors.JaxRuntimeError("INTERNAL: something else")) is None
