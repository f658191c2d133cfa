"""Examples on the host give the batches of the same examples on the devices."""

import re

import chex
import jax
import numpy as np
import pytest

from jaxlabs.config import UserError
from jaxlabs.data import host as host_module
from jaxlabs.data.batches import Examples, TokenStream, batch_at, on_host
from jaxlabs.data.host import HostExamples

COUNT = 10
X = np.random.default_rng(0).normal(size=(COUNT, 2, 3)).astype(np.float32)
LABELS = np.arange(COUNT, dtype=np.int32)
WEIGHTS = np.linspace(0.5, 1, COUNT, dtype=np.float32)
LISTED = [{"x": X[i], "label": i} for i in range(COUNT)]


def example(i):
    return {"x": X[i], "label": np.int64(i), "weights": WEIGHTS[i]}


@pytest.mark.parametrize("batch_size", [3, 5, 16])
def test_batches_equal_those_of_a_device_data_set(batch_size):
    arrays = {"x": X, "label": LABELS}
    for host, device in (
        (HostExamples(LISTED), Examples(arrays)),
        (HostExamples(example, COUNT), Examples(arrays | {"weights": WEIGHTS})),
    ):
        for step in (0, 1, 3, 50):
            ours = jax.device_put(host.batch_at(7, step, batch_size))
            theirs = batch_at(device, 7, step, batch_size)
            chex.assert_trees_all_equal(ours, theirs)
            chex.assert_trees_all_equal_dtypes(ours, theirs)


@pytest.mark.parametrize("seed", [2**31, 2**32 - 1])
def test_seed_may_have_32_bits(seed):
    ours = HostExamples(LISTED).batch_at(seed, 3, 4)
    theirs = batch_at(Examples({"x": X, "label": LABELS}), np.uint32(seed), 3, 4)
    chex.assert_trees_all_equal(ours, jax.device_get(theirs))


def test_order_is_computed_on_the_cpu_beside_the_devices_of_the_training(monkeypatch):
    used, shuffled = [], host_module._shuffled

    def recorded(*arguments):
        used.append(jax.config.jax_default_device)
        return shuffled(*arguments)

    monkeypatch.setattr(host_module, "_shuffled", recorded)
    with jax.default_device(jax.devices()[1]):
        HostExamples([{"x": i} for i in range(5)]).batch_at(0, 0, 2)
    assert used == [jax.local_devices(backend="cpu")[0]]


def test_examples_with_an_order_of_their_own_are_read_in_it_without_an_end():
    host = HostExamples(lambda i: {"i": i}, shuffle=False)
    batch = host.batch_at(0, 10**6, 4)
    assert batch["i"].tolist() == [4_000_000, 4_000_001, 4_000_002, 4_000_003]
    np.testing.assert_array_equal(batch["weights"], np.ones(4, np.float32))


def test_examples_at_some_indices_are_a_set_for_evaluation():
    chex.assert_trees_all_equal(
        HostExamples(LISTED).take([4, 1]).arrays, {"x": X[[4, 1]], "label": LABELS[[4, 1]]}
    )


def test_pytrees_are_on_the_devices_and_other_objects_on_the_host():
    assert on_host(HostExamples(LISTED))
    assert not on_host(Examples({"x": X}))
    assert not on_host(TokenStream(tokens=np.zeros(9, np.uint8), context_length=2))


def broken(i):
    if i == 3:
        raise OSError("image 3\nis truncated")
    return LISTED[i]


@pytest.mark.parametrize(
    ("examples", "line"),
    [
        (broken, "example 3: OSError: image 3 is truncated"),
        (
            lambda i: None if i == 3 else LISTED[i],
            "example 3 is NoneType, expected a dict of arrays",
        ),
        (lambda i: {"x": X[i, : 1 + (i == 3)]}, "x float32[2,3]"),
        (lambda i: {"x": X[i]} | ({"y": 0} if i == 3 else {}), "x float32[2,3], y int32[]"),
        (lambda i: {"x": "a"}, ": TypeError: x is <U1, expected numbers"),
    ],
    ids=["raises", "none", "shape", "names", "strings"],
)
def test_example_that_cannot_be_used_gives_one_line(examples, line):
    with pytest.raises(UserError, match=r"^training data: .*" + re.escape(line)) as caught:
        HostExamples(examples, COUNT).batch_at(0, 0, COUNT)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("count", [0, 2**31])
def test_number_of_examples_is_checked(count):
    with pytest.raises(UserError, match=f"^count: {count} is not accepted; 1 to 2147483647"):
        HostExamples(example, count)


def test_function_needs_the_number_of_examples():
    with pytest.raises(UserError, match=r"^count: missing with a function"):
        HostExamples(example)


def test_grain_pipeline_is_read_in_its_own_order():
    grain = pytest.importorskip("grain")
    pipeline = grain.MapDataset.source(LISTED).shuffle(seed=3)
    augmented = pipeline.random_map(lambda one, rng: one | {"noise": rng.normal()}, seed=4)
    host = HostExamples(augmented, shuffle=False)
    for step in (0, 1, 5):  # the third is in another epoch, with another order
        batch = host.batch_at(0, step, 4)
        rows = [augmented[4 * step + row] for row in range(4)]
        assert batch["label"].tolist() == [row["label"] for row in rows]
        assert batch["noise"].tolist() == [np.float32(row["noise"]) for row in rows]


def test_grain_pipeline_without_an_order_is_shuffled_like_a_list():
    grain = pytest.importorskip("grain")
    host = HostExamples(grain.MapDataset.source(LISTED))
    chex.assert_trees_all_equal(host.batch_at(1, 2, 4), HostExamples(LISTED).batch_at(1, 2, 4))
