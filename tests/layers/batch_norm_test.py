"""BatchNorm against numpy, PyTorch and several devices."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.layers.batch_norm import BatchNorm, batch_norm, batch_statistics
from jaxlabs.training import gradient_check

SHAPES = [((6, 3), (0,)), ((4, 2, 3), (0,)), ((3, 4, 2, 5), (0, 1, 2))]


def sample(shape, offset=1.5, seed=0):
    return np.float32(np.random.default_rng(seed).standard_normal(shape) * 3 + offset)


def variables_of(shape, seed=1):
    scale, bias, mean, spread = np.float32(np.random.default_rng(seed).standard_normal((4, *shape)))
    return {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": {"mean": mean, "variance": np.square(spread) + np.float32(0.1)},
    }


@pytest.mark.parametrize(("shape", "axes"), SHAPES)
def test_training_and_evaluation_equal_numpy(shape, axes):
    x = sample(shape)
    kept = tuple(size for axis, size in enumerate(shape) if axis not in axes)
    variables, norm = variables_of(kept), BatchNorm(axes=axes, epsilon=0.2, momentum=0.3)
    params, running = (variables[name] for name in ("params", "batch_stats"))
    broadcast = tuple(slice(None) if axis not in axes else None for axis in range(x.ndim))

    def normalized(mean, variance):
        y = (x - mean[broadcast]) / np.sqrt(variance[broadcast] + 0.2)
        return y * params["scale"][broadcast] + params["bias"][broadcast]

    got, updated = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    mean, variance = x.mean(axes, np.float64), x.var(axes, np.float64)
    chex.assert_shape(batch_statistics(x, axes=axes)[:2], kept)
    np.testing.assert_allclose(got, normalized(mean, variance), atol=2e-6)
    values = x.size // mean.size
    assert batch_statistics(x, axes=axes).count == values
    new_statistics = {"mean": mean, "variance": variance * values / (values - 1)}
    for name, new in new_statistics.items():
        expected = 0.7 * running[name] + 0.3 * new
        np.testing.assert_allclose(updated["batch_stats"][name], expected, rtol=1e-5)
    got = norm.apply(variables, x, train=False)
    np.testing.assert_allclose(got, normalized(running["mean"], running["variance"]), atol=5e-6)


def test_biased_running_variance_averages_the_batch_variances():
    x = sample((5, 3))
    norm, variables = BatchNorm(unbiased=False, momentum=1.0), variables_of((3,))
    _, updated = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(updated["batch_stats"]["variance"], x.var(0), rtol=1e-5)


def test_init_is_the_identity_and_does_not_update_statistics(key):
    x = sample((4, 3))
    variables = BatchNorm(epsilon=0.0).init(key, x, train=True, axis_name="batch")
    np.testing.assert_array_equal(variables["batch_stats"]["mean"], 0)
    np.testing.assert_array_equal(variables["batch_stats"]["variance"], 1)
    np.testing.assert_array_equal(BatchNorm(epsilon=0.0).apply(variables, x, train=False), x)


def test_examples_of_weight_zero_are_ignored():
    x, weights = sample((6, 3)), np.float32([1, 0, 1, 0.5, 0, 1])
    x[1] = np.nan  # the content of padding
    valid = x[weights > 0]
    got, expected = batch_statistics(x, weights=weights), batch_statistics(valid)
    assert got.count == 4
    chex.assert_trees_all_close(got, expected, rtol=1e-6)
    norm, variables = BatchNorm(), variables_of((3,))
    options = {"train": True, "mutable": ["batch_stats"]}
    y, updated = norm.apply(variables, x, weights=weights, **options)
    y_valid, updated_valid = norm.apply(variables, valid, **options)
    np.testing.assert_allclose(y[weights > 0], y_valid, atol=1e-6)
    chex.assert_trees_all_close(updated, updated_valid, rtol=1e-6)


@pytest.mark.parametrize("weights", [None, np.float32([1, 1, 1, 0, 0, 1, 0, 0])])
def test_four_devices_equal_one_also_with_a_device_of_padding(weights):
    x, target = sample((8, 3), offset=40.0), sample((8, 3), seed=2)
    weights = np.ones(8, np.float32) if weights is None else weights
    norm, variables = BatchNorm(), variables_of((3,))

    def total(params, x, target, weights, axis_name):
        y, updated = norm.apply(
            variables | {"params": params},
            x,
            train=True,
            weights=weights,
            axis_name=axis_name,
            mutable=["batch_stats"],
        )
        loss = jnp.sum(jnp.sin(y) * target * weights[:, None])
        return loss, updated["batch_stats"]

    def whole(axis_name, params, x, *rest):
        (gradients, x_gradient), updated = jax.grad(total, (0, 1), has_aux=True)(
            params, x, *rest, axis_name
        )
        if axis_name is not None:
            gradients = jax.lax.psum(gradients, axis_name)
        return gradients, updated, x_gradient

    expected = whole(None, variables["params"], x, target, weights)
    cut = [array.reshape(4, 2, *array.shape[1:]) for array in (x, target, weights)]
    step = functools.partial(whole, "batch")
    mapped = jax.pmap(step, "batch", in_axes=(None, 0, 0, 0), devices=jax.devices()[:4])
    gradients, updated, x_gradient = mapped(variables["params"], *cut)
    chex.assert_trees_all_close(x_gradient.reshape(8, 3), expected[2], atol=1e-5)
    for device in range(4):
        one = jax.tree.map(lambda leaf, device=device: leaf[device], (gradients, updated))
        chex.assert_trees_all_close(one, expected[:2], rtol=1e-5, atol=1e-5)


def test_a_batch_without_variance_keeps_the_running_statistics():
    norm, variables = BatchNorm(), variables_of((3,))
    before = variables["batch_stats"]
    options = {"train": True, "mutable": ["batch_stats"]}
    y, updated = norm.apply(variables, sample((1, 3)), **options)
    np.testing.assert_allclose(y, variables["params"]["bias"][None], atol=1e-6)
    np.testing.assert_array_equal(updated["batch_stats"]["variance"], before["variance"])
    assert (np.asarray(updated["batch_stats"]["mean"]) != before["mean"]).all()
    y, updated = norm.apply(variables, sample((4, 3)), weights=np.zeros(4), **options)
    assert np.isfinite(y).all()
    chex.assert_trees_all_equal(updated["batch_stats"], before)


@pytest.mark.parametrize("epsilon", [0.0, 1e-5])
def test_a_constant_feature_becomes_its_bias_with_finite_gradients(epsilon):
    x = sample((4, 3))
    x[:, 1] = 7
    params = {name: jnp.asarray(leaf) for name, leaf in variables_of((3,))["params"].items()}

    def normalized(x, params):
        statistics = batch_statistics(x)
        return batch_norm(x, *statistics[:2], params["scale"], params["bias"], epsilon=epsilon)

    np.testing.assert_allclose(normalized(x, params)[:, 1], params["bias"][1], rtol=1e-6)
    slopes = jax.grad(lambda x, params: jnp.sin(normalized(x, params)).sum(), (0, 1))(x, params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_variance_is_accurate_with_a_large_mean():
    x = sample((64, 2), offset=3000.0)
    np.testing.assert_allclose(batch_statistics(x).variance, x.var(0, dtype=np.float64), rtol=1e-4)


def test_statistics_of_bfloat16_are_computed_in_float32():
    x = jnp.asarray(sample((512, 4), offset=0.0), jnp.bfloat16)
    statistics = batch_statistics(x)
    assert statistics.mean.dtype == jnp.float32
    np.testing.assert_allclose(statistics.variance, x.astype(jnp.float32).var(0), rtol=1e-5)
    assert batch_norm(x, *statistics[:2]).dtype == jnp.bfloat16


@pytest.mark.parametrize(("shape", "axes"), [((5, 3), (0,)), ((2, 2, 2, 3), (0, 1, 2))])
def test_gradients_equal_finite_differences_in_float64(shape, axes):
    norm, variables = BatchNorm(axes=axes), variables_of((3,))
    weights = np.ones(shape[0], np.float32)

    def total(leaves, target):
        y, _ = norm.apply(
            {"params": leaves["params"], "batch_stats": variables["batch_stats"]},
            leaves["x"],
            train=True,
            weights=weights,
            mutable=["batch_stats"],
        )
        return jnp.sum(jnp.sin(y) * target)

    leaves = {"x": sample(shape), "params": variables["params"]}
    report = gradient_check.check(total, leaves, sample(shape, seed=3))
    assert report.worst.relative_difference < 1e-7, report


@pytest.mark.peers
@pytest.mark.parametrize(("shape", "axes"), [((6, 3), (0,)), ((3, 4, 2, 5), (0, 1, 2))])
def test_three_training_steps_and_an_evaluation_equal_pytorch(shape, axes):
    torch = pytest.importorskip("torch")
    scale, bias = variables_of(shape[-1:])["params"].values()
    theirs = (torch.nn.BatchNorm1d if len(shape) == 2 else torch.nn.BatchNorm2d)(shape[-1])
    with torch.no_grad():
        theirs.weight.copy_(torch.tensor(scale))
        theirs.bias.copy_(torch.tensor(bias))

    def in_torch(x):  # channels-first
        y = theirs(torch.tensor(np.moveaxis(x, -1, 1)))
        return np.moveaxis(y.detach().numpy(), 1, -1)

    ours = BatchNorm(axes=axes)
    stats = {"mean": np.zeros(shape[-1], np.float32), "variance": np.ones(shape[-1], np.float32)}
    variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": stats}
    for seed in range(3):
        x = sample(shape, seed=seed)
        y, updated = ours.apply(variables, x, train=True, mutable=["batch_stats"])
        variables |= updated
        np.testing.assert_allclose(y, in_torch(x), atol=1e-5)
    np.testing.assert_allclose(stats_of(variables, "mean"), theirs.running_mean, atol=1e-5)
    np.testing.assert_allclose(stats_of(variables, "variance"), theirs.running_var, rtol=1e-5)
    theirs.eval()
    x = sample(shape, seed=3)
    np.testing.assert_allclose(ours.apply(variables, x, train=False), in_torch(x), atol=1e-5)


def stats_of(variables, name):
    return np.asarray(variables["batch_stats"][name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"axes": (1,)}, r"axes: \(1,\) is not accepted; with 0, the batch"),
        ({"weights": np.ones(3)}, r"weights: \(3,\) is not accepted; \(4,\), one an example"),
        ({"weights": np.ones((4, 1))}, r"weights: \(4, 1\) is not accepted"),
    ],
)
def test_invalid_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        batch_statistics(sample((4, 3)), **options)
