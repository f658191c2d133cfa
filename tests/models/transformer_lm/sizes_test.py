"""Number of parameters, FLOPs and initialization of the Transformer."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.losses.cross_entropy import cross_entropy
from jaxlabs.models.transformer_lm import TransformerLM, TransformerLMConfig
from jaxlabs.training.matmul_flops import matmul_flops
from jaxlabs.training.state import count_parameters

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def test_reference_has_the_published_number_of_parameters(tokens_of):
    shapes = jax.eval_shape(
        TransformerLM(TransformerLMConfig(vocab_size=65)).init, jax.random.key(0), tokens_of()
    )
    params = shapes["params"]
    assert count_parameters(params) == 10_690_625
    assert count_parameters(params["embedding"]) == 24_960
    for layer in range(6):
        assert count_parameters(params[f"blocks_{layer}"]) == 1_773_312
    assert count_parameters(params["final_norm"]) == 768
    assert count_parameters(params["head"]) == 25_025
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(params))


def test_forward_pass_takes_two_flops_per_weight_and_four_per_score(key, tiny, tokens_of):
    model, tokens = tiny(), tokens_of()
    params = jax.eval_shape(model.init, key, tokens)["params"]
    weights = 2 * (4 * 16 * 16 + 2 * 16 * 24) + 16 * 11
    expected = 3 * 8 * (2 * weights + 2 * 4 * 8 * 16)
    assert matmul_flops(lambda p, x: model.apply({"params": p}, x), params, tokens) == expected


def test_initial_loss_is_within_two_percent_of_uniform(key, tokens_of):
    # Logits start as sums of 384 numbers of unit variance times weights of deviation 0.02, so the
    # loss exceeds ln 65 by half their variance, 384 * 0.02^2 / 2 = 0.077 nats or 1.84 %. All
    # targets have equal weight here; the character frequencies of a text change it by a percent.
    model = TransformerLM(TransformerLMConfig(vocab_size=65, num_layers=2, context_length=64))
    tokens = tokens_of(batch=4, time=64, vocabulary=65)

    @jax.jit
    def loss_at_start(key):
        logits = model.apply(model.init(key, tokens), tokens)
        targets = jnp.broadcast_to(jnp.arange(65)[:, None, None], (65, 4, 64))
        return cross_entropy(jnp.broadcast_to(logits[None], (65, *logits.shape)), targets).mean()

    losses = [loss_at_start(jax.random.fold_in(key, seed)) for seed in range(4)]
    assert abs(np.mean(losses) - math.log(65)) < 0.02 * math.log(65)


def test_initial_deviations_are_those_of_gpt2(key, tokens_of):
    model = TransformerLM(
        TransformerLMConfig(vocab_size=65, embed_dim=192, mlp_dim=256, num_layers=2, qkv_bias=True)
    )
    params = jax.jit(model.init)(key, tokens_of())["params"]
    block = params["blocks_1"]
    for kernel, stddev in [
        (params["embedding"]["embedding"], 0.02),
        (params["head"]["kernel"], 0.02),
        (block["attention"]["query_kernel"], 0.02),
        (block["ffn"]["up_proj"]["kernel"], 0.02),
        (block["attention"]["out"]["kernel"], 0.01),
        (block["ffn"]["down_proj"]["kernel"], 0.01),
    ]:
        np.testing.assert_allclose(kernel.std(), stddev, rtol=0.05)
        assert abs(kernel.mean()) < 5 * stddev / kernel.size**0.5
    paths = jax.tree_util.tree_flatten_with_path(params)[0]
    biases = [leaf for path, leaf in paths if "bias" in str(path[-1])]
    assert len(biases) == 2 * 9 - 2 + 1 + 1
    assert all((leaf == 0).all() for leaf in biases)


WORDS = TransformerLMConfig(
    **{
        "vocab_size": 5755,
        "context_length": 32,
        "embed_dim": 64,
        "num_layers": 4,
        "num_heads": 2,
    },
    **{"mlp_dim": 100, "positions": "learned", "init": "pytorch", "dropout": 0.0},
)
"""The word-level decoder of the speeches lab."""


def test_word_decoder_has_the_published_number_of_parameters(key, tokens_of):
    shapes = jax.eval_shape(TransformerLM(WORDS).init, key, tokens_of())["params"]
    assert count_parameters(shapes) == 863_243
    assert count_parameters(shapes["embedding"]) == 5755 * 64
    assert count_parameters(shapes["position_embedding"]) == 32 * 64
    assert count_parameters(shapes["blocks_3"]) == 4 * 64**2 + 64 + 2 * 6400 + 164 + 4 * 64
    assert count_parameters(shapes["head"]) == 65 * 5755


SHALLOW_WORDS = dataclasses.replace(WORDS, num_layers=1)  # fast to initialize


@pytest.fixture(scope="module")
def word_decoders(tokens_of):
    """Initial parameters for several seeds."""
    init = jax.jit(TransformerLM(SHALLOW_WORDS).init)
    return [init(jax.random.key(seed), tokens_of())["params"] for seed in range(8)]


def test_initial_loss_of_the_word_decoder_equals_the_published_one(word_decoders, tokens_of):
    # The final norm gives 64 numbers of unit variance; head weights and biases have a variance of
    # 1 / (3 * 64). So logits have a variance of 65 / 192 = 0.339, and the mean loss exceeds
    # ln 5755 = 8.658 by half of it: 8.827. Published, of one batch of one seed: 8.85.
    tokens = tokens_of(batch=4, time=32, vocabulary=5755)

    @jax.jit
    def mean_loss(params):
        logits = TransformerLM(SHALLOW_WORDS).apply({"params": params}, tokens)
        return (jax.nn.logsumexp(logits, axis=-1) - logits.mean(axis=-1)).mean()

    losses = np.array([mean_loss(params) for params in word_decoders])
    np.testing.assert_allclose(losses.mean(), math.log(5755) + 65 / 384, atol=0.02)
    assert (np.abs(losses - losses.mean()) < 0.05).all()


@pytest.mark.peers
def test_pytorch_initialization_has_the_distributions_of_pytorch(word_decoders, copy_parameters):
    torch = pytest.importorskip("torch")
    from jaxlabs.benchmark.peers.torch_models import GPT

    torch.manual_seed(0)
    theirs = [dict(GPT(SHALLOW_WORDS).named_parameters()) for _ in word_decoders]
    torch_gpt, ours = GPT(SHALLOW_WORDS), []
    for params in word_decoders:
        copy_parameters(torch_gpt, params)
        ours.append({name: leaf.detach().clone() for name, leaf in torch_gpt.named_parameters()})
    for name in theirs[0]:
        expected, got = (
            torch.stack([run[name] for run in runs]).detach().numpy() for runs in (theirs, ours)
        )
        tolerance = 4 * expected.std() / expected.size**0.5  # four standard errors
        np.testing.assert_allclose(got.mean(), expected.mean(), atol=2 * tolerance, err_msg=name)
        np.testing.assert_allclose(got.std(), expected.std(), atol=2 * tolerance, err_msg=name)
        np.testing.assert_allclose(np.abs(got).max(), np.abs(expected).max(), rtol=0.25)


def test_zero_init_residual_zeroes_the_residual_projections(key, tiny, tokens_of):
    model = tiny(zero_init_residual=True, positions="rotary", pre_norm=True)
    params = jax.jit(model.init)(key, tokens_of())["params"]
    for name in ("blocks_0", "blocks_1"):
        assert not params[name]["attention"]["out"]["kernel"].any()
        assert not params[name]["ffn"]["down_proj"]["kernel"].any()


def test_options_add_and_remove_their_parameters(key, tiny, tokens_of):
    def names(**options):
        shapes = jax.eval_shape(tiny(**options).init, key, tokens_of())["params"]
        return {
            jax.tree_util.keystr(path, simple=True, separator=".")
            for path, _ in jax.tree_util.tree_flatten_with_path(shapes)[0]
        }

    plain = names()
    assert names(positions="learned") - plain == {"position_embedding.embedding"}
    assert names(positions="rotary") == names(positions="alibi") == plain
    assert names(qk_norm=True) == names(attention_window=2) == plain
    assert plain - names(tie_embeddings=True) == {"head.kernel", "head.bias"}
    assert {name for name in plain if name.endswith("bias")} == plain - names(bias=False)
    assert not {name for name in names(norm="rmsnorm") if "norm" in name}
    assert plain - names(pre_norm=False) == {"final_norm.scale", "final_norm.bias"}
    assert len(names(qkv_bias=True) - plain) == 6
    kernels = {
        f"blocks_{block}.{part}_convolution.kernel"
        for block in (0, 1)
        for part in ("attention", "ffn")
    }
    assert names(short_conv_width=4) - plain == kernels
