import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.training.gradient_check import Comparison, check


def sigmoid_network_loss(params, inputs, targets):
    hidden = jax.nn.sigmoid(inputs @ params["first"]["kernel"] + params["first"]["bias"][None, :])
    outputs = jax.nn.sigmoid(hidden @ params["second"]["kernel"])
    return jnp.mean((outputs - targets) ** 2)


def network_and_data(hidden_size=5):
    """Weights and inputs in the range of the UFLDL notes, which state a difference below 1e-9."""
    rng = np.random.default_rng(0)
    bound = np.sqrt(6 / (4 + hidden_size + 1))
    params = {
        "first": {
            "kernel": rng.uniform(-bound, bound, size=(4, hidden_size)),
            "bias": rng.uniform(-0.1, 0.1, size=hidden_size),
        },
        "second": {"kernel": rng.uniform(-bound, bound, size=(hidden_size, 3))},
    }
    params = jax.tree.map(np.float32, params)
    inputs, targets = rng.uniform(0.1, 0.9, size=(8, 4)), np.eye(3)[[0, 1, 0, 0, 2, 1, 0, 0]]
    return params, np.float32(inputs), np.float32(targets)


@jax.custom_vjp
def wrong_sigmoid(x):
    return jax.nn.sigmoid(x)


# The derivative of a sigmoid is s (1 - s); the factor (1 - s) is missing here.
wrong_sigmoid.defvjp(
    lambda x: (jax.nn.sigmoid(x), jax.nn.sigmoid(x)), lambda s, gradient: (gradient * s,)
)


def test_correct_gradient_has_difference_below_1e_9():
    report = check(sigmoid_network_loss, *network_and_data())
    assert [row.every_entry for row in report.comparisons] == [True, True, True]
    assert {row.name: row.analytic.shape for row in report.comparisons} == {
        "first.bias": (5,),
        "first.kernel": (20,),
        "second.kernel": (15,),
    }
    assert report.worst.relative_difference < 1e-9


def test_random_directions_stay_inside_their_array():
    report = check(sigmoid_network_loss, *network_and_data(), key=jax.random.key(1), max_entries=10)
    assert {row.name: row.every_entry for row in report.comparisons} == {
        "first.bias": True,
        "first.kernel": False,
        "second.kernel": False,
    }
    assert report.worst.relative_difference < 1e-8


@pytest.mark.parametrize("max_entries", [500, 2])
def test_wrong_gradient_is_detected_and_named(max_entries):
    def loss(params, inputs):
        gate = wrong_sigmoid(params["gate"]["scale"])
        return jnp.sum(jnp.tanh(inputs @ params["kernel"] * gate[None, :]))

    rng = np.random.default_rng(1)
    params = {"gate": {"scale": rng.normal(size=4)}, "kernel": rng.normal(size=(3, 4))}
    report = check(
        loss, params, rng.normal(size=(6, 3)), key=jax.random.key(0), max_entries=max_entries
    )
    assert report.worst.name == "gate.scale"
    assert report.worst.relative_difference > 0.01
    assert report.comparisons[1].relative_difference < 1e-8
    assert "gate.scale" in str(report).splitlines()[1]


def test_table_has_entry_of_largest_difference():
    comparison = Comparison(
        "kernel", np.asarray([1.0, 2.0, 3.0]), np.asarray([1.0, 2.5, 3.0]), True
    )
    # ||(0, -0.5, 0)|| / ||(2, 4.5, 6)|| = 0.5 / 7.7621.
    assert comparison.relative_difference == pytest.approx(0.5 / np.sqrt(60.25))
    assert comparison.row() == " 6.4e-02  kernel: entry 1 of 3: analytic 2, numeric 2.5"


def test_zero_opposite_and_nonfinite_gradients():
    zero, one = np.zeros(2), np.ones(2)
    assert Comparison("p", zero, zero, True).relative_difference == 0
    assert Comparison("p", one, -one, True).relative_difference == np.inf
    assert Comparison("p", one * np.nan, one, True).relative_difference == np.inf


def test_float64_is_enabled_inside_only_and_applies_to_arguments():
    dtypes = []

    def loss(params, x, count, key):
        dtypes.extend([params.dtype, x.dtype, count.dtype])
        return jnp.sum(params * x) * count + 0 * jax.random.uniform(key)

    x = jnp.ones(3, jnp.bfloat16)
    report = check(loss, jnp.ones(3), x, jnp.int32(2), jax.random.key(0))
    assert set(dtypes) == {jnp.dtype(jnp.float64), jnp.dtype(jnp.int32)}
    np.testing.assert_allclose(report.worst.numeric, 2)
    assert jnp.ones(1).dtype == jnp.float32


def test_large_array_without_key_and_integers_are_refused():
    with pytest.raises(ValueError, match=r"first\.kernel has 20 entries.*need a key"):
        check(sigmoid_network_loss, *network_and_data(), max_entries=15)
    with pytest.raises(ValueError, match="count is int32"):
        check(lambda params: 0.0, {"count": jnp.arange(3)})
