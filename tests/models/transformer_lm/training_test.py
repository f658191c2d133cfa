"""Dropout, the loss and its gradients, and the training step."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from jaxlabs.models.transformer_lm import loss, train_step
from jaxlabs.training.state import create_state

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def state_of(model, params, **options):
    return create_state(model, {"params": params}, optax.adam(1e-2), **options)


def test_dropout_of_an_example_does_not_depend_on_its_batch(
    key, tiny, parameters, logits_of, tokens_of
):
    model = tiny(dropout=0.5)
    params, tokens = parameters(model), tokens_of()
    keys = jax.random.split(key, 3)
    whole = logits_of(model, params, tokens, keys)
    for rows in (slice(0, 1), slice(1, 3)):
        alone = logits_of(model, params, tokens[rows], keys[rows])
        np.testing.assert_allclose(alone, whole[rows], atol=1e-5)
    same = np.repeat(tokens[:1], 3, axis=0)
    dropped = logits_of(model, params, same, keys)
    assert np.abs(dropped[0] - dropped[1]).max() > 0.01


def test_loss_sums_over_valid_tokens_only(key, tiny, parameters, logits_of, batch_of):
    model, batch = tiny(), batch_of()
    params = parameters(model)
    batch["weights"][1, 3:] = 0
    batch["weights"][2, :] = 0
    output = loss(model, {"params": params}, batch, key, train=False)
    log_probabilities = jax.nn.log_softmax(logits_of(model, params, batch["inputs"]))
    valid = [(0, t) for t in range(8)] + [(1, t) for t in range(3)]
    expected = -sum(log_probabilities[b, t, batch["targets"][b, t]] for b, t in valid)
    correct = sum(log_probabilities[b, t].argmax() == batch["targets"][b, t] for b, t in valid)
    assert output.weight_sum == 11
    np.testing.assert_allclose(output.loss_sum, expected, rtol=1e-5)
    assert output.metric_sums == {"accuracy": correct}
    assert output.new_batch_stats is None


def test_all_padding_has_zero_loss_and_gradient(key, tiny, parameters, batch_of):
    model, batch = tiny(), batch_of()
    batch["weights"][:] = 0
    gradients = jax.grad(lambda p: loss(model, {"params": p}, batch, key, train=True).loss_sum)(
        parameters(model)
    )
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradients))


def test_dropout_is_applied_in_training_only(key, tiny, parameters, batch_of):
    model, batch = tiny(dropout=0.3), batch_of()
    params = parameters(model)
    total = jax.jit(
        lambda key, train: loss(model, {"params": params}, batch, key, train=train).loss_sum,
        static_argnums=1,
    )
    other = jax.random.fold_in(key, 1)
    assert total(key, False) == total(other, False)
    assert total(key, True) == total(key, True)
    assert total(key, True) != total(other, True)
    other_examples = batch | {"example_index": batch["example_index"] + 3}
    assert loss(model, {"params": params}, other_examples, key, train=True).loss_sum != total(
        key, True
    )


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "gelu", "positions": "learned", "tie_embeddings": True},
        {"activation": "gelu", "positions": "alibi", "attention_window": 2, "pre_norm": False},
        {"positions": "rotary", "norm": "rmsnorm", "qk_norm": True, "activation": "squared_relu"},
        {"activation": "gelu", "short_conv_width": 2},
    ],
)
def test_gradient_of_the_loss_in_float64(key, options, tiny, parameters, batch_of):
    model, batch = (
        tiny(num_layers=1, embed_dim=4, num_heads=1, mlp_dim=4, **options),
        batch_of(2, 3),
    )
    params = parameters(model)
    with jax.enable_x64(True):
        params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)

        def total(params):
            return loss(model, {"params": params}, batch, key, train=False).loss_sum

        assert total(params).dtype == jnp.float64
        check_grads(jax.jit(total), (params,), order=1, modes=["rev"])


def test_bfloat16_gradients_are_close_to_the_highest_precision(key, tiny, parameters, batch_of):
    def gradients(precision):
        model = tiny(matmul_precision=precision, embed_dim=64, mlp_dim=128, num_layers=1)
        return jax.jit(
            jax.grad(lambda p: loss(model, {"params": p}, batch_of(), key, train=False).loss_sum)
        )(parameters(tiny(embed_dim=64, mlp_dim=128, num_layers=1)))

    highest, bf16, default = (gradients(p) for p in ("highest", "bfloat16", "default"))
    chex.assert_trees_all_close(default, highest, rtol=1e-3, atol=1e-3)
    vectors = [jax.flatten_util.ravel_pytree(tree)[0] for tree in (highest, bf16)]
    error = float(jnp.linalg.norm(vectors[0] - vectors[1]) / jnp.linalg.norm(vectors[0]))
    assert 1e-5 < error < 2e-2


def test_one_batch_is_overfit(key, tiny, tokens_of, batch_of):
    model = tiny(positions="rotary")
    params = jax.jit(model.init)(key, tokens_of())["params"]
    state, batch = state_of(model, params), batch_of()
    # The first tokens differ, since equal contexts with different targets could not be learned.
    batch["inputs"][:, 0] = np.arange(3)
    for step in range(150):
        state, metrics = train_step(state, batch, jax.random.fold_in(key, step))
    assert metrics["loss"] < 0.05
    assert metrics["accuracy"] == 1


def test_micro_batches_have_the_dropout_of_the_whole_batch(key, tiny, parameters, batch_of):
    model, batch = tiny(dropout=0.3), batch_of(batch=4)
    batch["weights"][0, 2:] = 0
    results = []
    for count in (1, 2):
        params = jax.tree.map(jnp.array, parameters(model))
        results.append(train_step(state_of(model, params, grad_accum_steps=count), batch, key))
    (whole, whole_metrics), (sliced, sliced_metrics) = results
    np.testing.assert_allclose(sliced_metrics["loss"], whole_metrics["loss"], rtol=1e-6)
    np.testing.assert_allclose(
        sliced_metrics["gradient_norm"], whole_metrics["gradient_norm"], rtol=1e-5
    )
    # Adam's first step is the sign of the gradient, so only its first moment can be compared.
    chex.assert_trees_all_close(sliced.opt_state[0].mu, whole.opt_state[0].mu, rtol=1e-5, atol=1e-6)
