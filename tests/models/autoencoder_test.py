"""Autoencoders against numpy and PyTorch, and their steps on 4 devices."""

import dataclasses
import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.special
import scipy.stats

from jaxlabs import keys
from jaxlabs.analysis.toy_training import init_params
from jaxlabs.models import autoencoder
from jaxlabs.models.autoencoder import Autoencoder, AutoencoderConfig, loss, train_step
from jaxlabs.training import gradient_check
from jaxlabs.training.devices import data_parallel
from jaxlabs.training.state import count_parameters, create_state

SHAPE, PIXELS = (4, 3, 1), 12
pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")

SGD = optax.sgd(0.1)
TINY = AutoencoderConfig(
    latent_dim=2, hidden_size=5, num_hidden_layers=1, matmul_precision="highest"
)
KEY = jax.random.key(3)


def make(count=8, tx=None, sample_binary=False, **settings):
    """Returns a state and a batch of gray images."""
    grad_accum_steps = settings.pop("grad_accum_steps", 1)
    model = Autoencoder(dataclasses.replace(TINY, **settings), SHAPE, sample_binary)
    images = np.random.default_rng(1).integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    batch = {
        "images": images,
        "weights": np.ones(count, np.float32),
        "example_index": np.arange(count, dtype=np.int32),
    }
    shapes = jax.eval_shape(model.init, KEY, jnp.zeros((1, PIXELS)))["params"]
    params = jax.tree.map(jnp.asarray, init_params(shapes, seed=0))
    state = create_state(model, {"params": params}, tx or SGD, grad_accum_steps=grad_accum_steps)
    return jax.tree.map(jnp.copy, state), batch  # no two leaves are the same buffer


@functools.partial(jax.jit, static_argnames="train")
def loss_output(state, batch, train=False):
    variables = state.variables(state.params)
    return loss(state.model, variables, batch, KEY, train=train, step=state.step)


def mean_metrics(state, batch, train=False):
    output = loss_output(state, batch, train)
    means = {name: float(value / output.weight_sum) for name, value in output.metric_sums.items()}
    return means | {"loss": float(output.loss_sum / output.weight_sum)}


def by_numpy(params, batch, config, shape=SHAPE):
    """Both objectives in float64, with the same noise."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

    def dense(x, name):
        return x @ params[name]["kernel"] + params[name]["bias"]

    def hidden(x, side):
        for layer in range(config.num_hidden_layers):
            x = np.tanh(dense(x, f"{side}_{layer}"))
        return x

    x = batch["images"].reshape(len(batch["images"]), -1) / 255
    h = hidden(x, "encoder")
    z, kl = dense(h, "z_mean"), 0.0
    if config.variational:
        example_keys = keys.per_example(KEY, batch["example_index"])
        noise = np.stack([jax.random.normal(key, (config.latent_dim,)) for key in example_keys])
        deviation = np.exp(dense(h, "z_log_var") / 2)
        kl = (deviation**2 + z**2 - 1 - 2 * np.log(deviation)).sum(axis=1) / 2
        z = z + deviation * noise
    logits = dense(hidden(z, "decoder"), "output")
    if config.likelihood == "bernoulli":
        mean = scipy.special.expit(logits)
        rows = x * np.log(mean) + (1 - x) * np.log1p(-mean)
    else:
        mean = logits
        rows = scipy.stats.norm.logpdf(
            x, mean, config.observation_std or np.exp(params["log_scale"])
        )
    reconstruction = -rows.sum(axis=1)
    return {
        "reconstruction": reconstruction.mean(),
        "squared_error": ((x - mean) ** 2).sum(axis=1).mean(),
        "loss": (reconstruction + config.beta * kl).mean(),
    } | ({"kl": kl.mean()} if config.variational else {})


@pytest.mark.parametrize(
    ("count", "settings"),
    [
        (8, {"num_hidden_layers": 2}),
        (8, {"objective": "ae"}),
        (1, {"latent_dim": 1, "beta": 3.0}),
        (8, {"likelihood": "gaussian", "observation_std": None, "num_hidden_layers": 0}),
    ],
    ids=["vae", "ae", "one image, one latent unit", "linear gaussian, learned scale"],
)
def test_every_term_of_the_objective_equals_numpy(count, settings):
    state, batch = make(count, **settings)
    expected = by_numpy(state.params, batch, state.model.config)
    found = mean_metrics(state, batch)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.peers
def test_loss_and_gradients_equal_pytorch():
    torch = pytest.importorskip("torch")
    state, batch = make()
    params = jax.tree.map(lambda leaf: torch.tensor(np.asarray(leaf)), state.params)
    leaves, tree = jax.tree.flatten(params)
    for leaf in leaves:
        leaf.requires_grad_()

    def layers(x, *names):
        for name in names:
            x = torch.tanh(x @ params[name]["kernel"] + params[name]["bias"])
        return x

    def dense(x, name):
        return x @ params[name]["kernel"] + params[name]["bias"]

    x = torch.tensor(batch["images"].reshape(8, -1) / np.float32(255))
    h = layers(x, "encoder_0")
    example_keys = keys.per_example(KEY, batch["example_index"])
    noise = np.stack([jax.random.normal(key, (2,)) for key in example_keys])
    q = torch.distributions.Normal(dense(h, "z_mean"), torch.exp(dense(h, "z_log_var") / 2))
    z = q.loc + q.scale * torch.tensor(noise)
    logits = dense(layers(z, "decoder_0"), "output")
    likelihood = torch.distributions.Bernoulli(logits=logits, validate_args=False).log_prob(x)
    prior = torch.distributions.Normal(torch.zeros(2), torch.ones(2))
    total = torch.distributions.kl_divergence(q, prior).sum() - likelihood.sum()
    total.backward()
    value, grads = jax.jit(
        jax.value_and_grad(
            lambda params: loss(state.model, {"params": params}, batch, KEY, train=True).loss_sum
        )
    )(state.params)
    np.testing.assert_allclose(value, total.detach().numpy(), rtol=1e-5)
    theirs = jax.tree.unflatten(tree, [leaf.grad.numpy() for leaf in leaves])
    chex.assert_trees_all_close(grads, theirs, rtol=1e-3, atol=1e-4)


def test_gradient_equals_finite_differences():
    state, batch = make(4, activation="sigmoid", free_bits=0.05)
    batch["images"] = batch["images"] / 255

    def mean_loss(params, batch):
        output = loss(state.model, {"params": params}, batch, KEY, train=True)
        return output.loss_sum / output.weight_sum

    report = gradient_check.check(mean_loss, state.params, batch)
    assert report.worst.relative_difference < 1e-6, str(report)
    assert report.all_params.relative_difference < 1e-7, str(report)


def test_reference_has_the_parameters_of_the_table():
    model = Autoencoder(AutoencoderConfig(), (28, 28, 1))
    shapes = jax.eval_shape(model.init, KEY, jnp.zeros((1, 784)))["params"]
    assert count_parameters(shapes) == 425_284
    ae = {name: leaf for name, leaf in shapes.items() if "log_var" not in name}
    assert count_parameters(ae) == 415_234


def test_zero_logits_cost_log_2_per_pixel():
    state, batch = make()
    state.params["output"] = jax.tree.map(jnp.zeros_like, state.params["output"])
    assert mean_metrics(state, batch)["reconstruction"] == pytest.approx(
        PIXELS * np.log(2), rel=1e-5
    )


def test_padding_is_ignored():
    state, batch = make(6)
    padded = {name: np.concatenate([rows, rows[:2]]) for name, rows in batch.items()}
    padded["weights"][6:] = 0
    assert mean_metrics(state, padded) == pytest.approx(mean_metrics(state, batch), rel=1e-5)


def test_beta_warmup_and_free_bits_apply_in_training_only():
    state, batch = make(beta=2.0, beta_warmup_steps=4)
    state = state.replace(step=jnp.int32(1))
    evaluated, trained = mean_metrics(state, batch), mean_metrics(state, batch, train=True)
    kl = evaluated["kl"]
    assert evaluated["loss"] == pytest.approx(evaluated["reconstruction"] + 2 * kl, rel=1e-5)
    assert trained["loss"] == pytest.approx(evaluated["reconstruction"] + 2 * kl / 2, rel=1e-5)
    free, _ = make(free_bits=5.0)  # above the KL of any unit
    trained = mean_metrics(free, batch, train=True)
    assert trained["loss"] == pytest.approx(trained["reconstruction"] + 2 * 5.0, rel=1e-5)
    assert mean_metrics(free, batch)["loss"] == pytest.approx(
        evaluated["reconstruction"] + kl, rel=1e-5
    )


def test_dynamic_binarization_samples_the_gray_values():
    state, batch = make(sample_binary=True, objective="ae", num_hidden_layers=0)
    many = {"images": np.repeat(batch["images"][:1], 2000, 0), "weights": np.ones(2000)}
    many["example_index"] = np.arange(2000, dtype=np.int32)
    state.params["output"]["bias"] = jnp.full(PIXELS, -40.0)  # a pixel of 1 costs 40 nats
    state.params["output"]["kernel"] = jnp.zeros((2, PIXELS))
    expected_sum = batch["images"][0].sum() / 255
    np.testing.assert_allclose(
        mean_metrics(state, many, train=True)["loss"] / 40, expected_sum, rtol=0.03
    )
    assert mean_metrics(state, many)["loss"] / 40 == pytest.approx(expected_sum, rel=1e-4)
    binary = many | {"images": (many["images"] > 127).astype(np.uint8) * np.uint8(255)}
    assert mean_metrics(state, binary, train=True) == pytest.approx(
        mean_metrics(state, binary), rel=1e-5
    )


@pytest.mark.parametrize("route", ["mesh", "pmap", "micro-batches"])
def test_a_step_over_four_shards_equals_one(route):
    one, batch = make(sample_binary=True)
    one, metrics = train_step(one, batch, KEY)
    four, _ = make(sample_binary=True, grad_accum_steps=4 if route == "micro-batches" else 1)
    if route == "mesh":
        placement = data_parallel()
        step = jax.jit(lambda state, batch: train_step(state, placement.shard_batch(batch), KEY))
        four, many = step(placement.replicate(four), batch)
    elif route == "pmap":
        four = jax.tree.map(lambda leaf: jnp.stack([leaf] * 4), four)
        split = jax.tree.map(lambda leaf: leaf.reshape(4, -1, *leaf.shape[1:]), batch)
        step = jax.pmap(
            lambda state, batch: train_step(state, batch, KEY, axis_name="batch"),
            axis_name="batch",
        )
        four, many = jax.tree.map(lambda leaf: leaf[0], step(four, split))
    else:
        four, many = train_step(four, batch, KEY)
    chex.assert_trees_all_close(one.params, four.params, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], many["loss"], rtol=1e-6)


def test_one_batch_is_overfit():
    state, batch = make(
        4, tx=optax.adam(0.02), objective="ae", likelihood="gaussian", hidden_size=16
    )
    first = mean_metrics(state, batch)["squared_error"]
    for _ in range(600):
        state, _ = train_step(state, batch, KEY)
    assert mean_metrics(state, batch)["squared_error"] < 0.01 * first


def test_interpolations_start_and_end_at_the_reconstructions():
    state, batch = make(6)
    model, params = state.model, state.params
    first, last = batch["images"][:3], batch["images"][3:]
    lines = autoencoder.interpolate(model, params, first, last, 5)
    chex.assert_shape(lines, (3, 5, *SHAPE))
    codes, _ = autoencoder.encode(model, params, batch["images"])
    decoded = autoencoder.decode(model, params, codes)
    np.testing.assert_allclose(lines[:, 0], decoded[:3], rtol=1e-5)
    np.testing.assert_allclose(lines[:, -1], decoded[3:], rtol=1e-5)
    middle = autoencoder.decode(model, params, (codes[:3] + codes[3:]) / 2)
    np.testing.assert_allclose(lines[:, 2], middle, rtol=1e-5)
    samples = autoencoder.sample_prior(model, params, KEY, 7)
    chex.assert_shape(samples, (7, *SHAPE))
    assert float(samples.min()) >= 0
    assert float(samples.max()) <= 1
