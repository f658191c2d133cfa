import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.special import softmax

from jaxlabs.layers import masks
from jaxlabs.layers.attention import attention_output, dot_product_attention
from jaxlabs.layers.dropout import dropout


def heads_of(batch=2, num_heads=3, query=5, key=5, head_dim=4, dtype=np.float32):
    random = np.random.default_rng(0)
    shapes = [(batch, num_heads, length, head_dim) for length in (query, key, key)]
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


@pytest.mark.parametrize("window", [None, 1, 2, 50])
def test_attention_equals_the_definition_with_window_and_padding(window, reference):
    query, key, value = heads_of()
    mask = masks.causal(5) if window is None else masks.AttentionMask(window=window).to_array(5)
    mask = mask & masks.padding(jnp.array([[1, 1, 1, 1, 1], [1, 1, 0, 1, 0]]))
    got = dot_product_attention(query, key, value, mask)
    np.testing.assert_allclose(got, reference(query, key, value, mask), atol=1e-6)


def test_bias_is_added_to_the_scaled_scores(reference):
    query, key, value = heads_of(query=2, key=7)
    bias = np.random.default_rng(1).standard_normal((1, 3, 2, 7)).astype(np.float32)
    attention = attention_output(query, key, value, bias=bias)
    np.testing.assert_allclose(
        attention.output, reference(query, key, value, True, bias), atol=1e-6
    )
    scores = np.einsum("bhqd,bhkd->bhqk", query, key) / 2 + bias
    np.testing.assert_allclose(attention.scores, scores, atol=1e-6)
    np.testing.assert_allclose(attention.weights, softmax(scores, axis=-1), atol=1e-6)


def test_a_query_without_keys_gets_zero_and_a_finite_gradient():
    query, key, value = heads_of()
    mask = masks.padding(jnp.array([[1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]))
    target = np.random.default_rng(1).standard_normal(query.shape).astype(np.float32)

    def total(query, key, value):
        return jnp.sum(dot_product_attention(query, key, value, mask) * target)

    attention = attention_output(query, key, value, mask)
    np.testing.assert_array_equal(attention.output[1], 0)
    np.testing.assert_array_equal(attention.weights[1], 0)
    np.testing.assert_allclose(attention.weights[0].sum(-1), 1, rtol=1e-6)
    for gradient in jax.grad(total, (0, 1, 2))(query, key, value):
        np.testing.assert_array_equal(gradient[1], 0)
        assert np.isfinite(gradient).all()
        assert np.abs(gradient[0]).max() > 0


def test_value_and_gradient_are_finite_at_scores_of_ten_thousand():
    query, key, value = heads_of()
    total = jax.value_and_grad(
        lambda q, k: jnp.sum(jnp.sin(dot_product_attention(q, k, value, masks.causal(5)))), (0, 1)
    )
    output, gradients = total(query * 1e3, key * 10)
    assert np.isfinite(output)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_softmax_of_bfloat16_is_computed_in_float32():
    narrow = [jnp.asarray(x, jnp.bfloat16) for x in heads_of()]
    attention = attention_output(*narrow, masks.causal(5))
    assert attention.weights.dtype == jnp.float32
    assert attention.output.dtype == jnp.bfloat16


def test_gradient_of_attention_in_float64():
    with jax.enable_x64(True):
        query, key, value = heads_of(
            batch=1, num_heads=2, query=3, key=4, head_dim=2, dtype=np.float64
        )
        mask = np.array([[1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]], bool)[None, None]

        def attend(query, key, value):
            return jnp.sin(dot_product_attention(query, key, value, mask))

        assert attend(query, key, value).dtype == jnp.float64
        check_grads(jax.jit(attend), (query, key, value), order=1)


@pytest.mark.peers
def test_attention_and_its_gradients_equal_pytorch():
    torch = pytest.importorskip("torch")
    inputs = heads_of(query=4, key=6)
    mask = np.random.default_rng(1).random((2, 1, 4, 6)) < 0.7
    mask[..., 0] = True
    target = np.random.default_rng(2).standard_normal((2, 3, 4, 4)).astype(np.float32)

    def total(*inputs):
        return jnp.sum(dot_product_attention(*inputs, mask) * target)

    gradients = jax.grad(total, (0, 1, 2))(*inputs)
    leaves = [torch.tensor(x, requires_grad=True) for x in inputs]
    attend = torch.nn.functional.scaled_dot_product_attention
    theirs = attend(*leaves, attn_mask=torch.tensor(mask))
    (theirs * torch.tensor(target)).sum().backward()
    np.testing.assert_allclose(
        dot_product_attention(*inputs, mask), theirs.detach().numpy(), atol=1e-5
    )
    for ours, leaf in zip(gradients, leaves, strict=True):
        np.testing.assert_allclose(ours, leaf.grad.numpy(), atol=1e-5)


def test_dropout_is_applied_to_the_attention_weights(key):
    query, keys_, value = heads_of()
    drop_keys = jax.random.split(key, 2)

    def drop(weights):
        return dropout(weights, 0.5, drop_keys)

    attention = attention_output(query, keys_, value, masks.causal(5), dropout=drop)
    expected = np.einsum("bhqk,bhkd->bhqd", drop(attention.weights), value)
    np.testing.assert_allclose(attention.output, expected, atol=1e-6)
    np.testing.assert_allclose(attention.weights.sum(-1), 1, rtol=1e-6)


def test_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="'half' is not one of"):
        dot_product_attention(*heads_of(), precision="half")
