"""`--compute_dtype=bfloat16` of every model: what is bfloat16, what stays float32, what it costs.

Most tests only trace; the jaxprs show the dtypes of all operations.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.extend import core

from jaxlabs.diffusion import samplers
from jaxlabs.diffusion.noise_schedules import DiffusionConfig
from jaxlabs.models import (
    autoencoder,
    batchnorm_net,
    char_rnn,
    ddpm,
    dual_encoder,
    image_classifier,
    seq2seq,
    sequence_classifier,
    sparse_autoencoder,
    text_encoder,
    transformer_lm,
)
from jaxlabs.training.state import create_state

BATCH, TIME, VOCAB, SHAPE = 8, 6, 11, (8, 8, 1)
KEY = jax.random.key(0)
FLOAT32, BFLOAT16 = jnp.dtype(jnp.float32), jnp.dtype(jnp.bfloat16)
MODERN = {"positions": "rotary", "norm": "rmsnorm", "qk_norm": True, "short_conv_width": 3}
SIZES = {"embed_dim": 16, "num_layers": 1, "num_heads": 2, "mlp_dim": 32, "dropout": 0.1}
LABELS = ("<pad>", "<sos>", "<eos>", "B", "O")


def tokens(time=TIME):
    return np.random.default_rng(0).integers(3, VOCAB, (BATCH, time)).astype(np.int32)


def batch_of(*shape, **arrays):
    """Returns a batch whose weights are `[batch, *shape]`."""
    index = np.arange(BATCH, dtype=np.int32)
    weights = np.ones((BATCH, *shape), np.float32)
    return {"weights": weights, "example_index": index, "is_first": index < 0, **arrays}


def images():
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (BATCH, *SHAPE), dtype=np.uint8)
    return batch_of(images=pixels, labels=random.integers(0, 3, BATCH).astype(np.int32))


def text():
    return batch_of(TIME, inputs=tokens(), targets=tokens())


def language_model(**settings):
    sizes = {"vocab_size": VOCAB, "context_length": TIME} | SIZES
    config = transformer_lm.TransformerLMConfig(**sizes | settings)
    return transformer_lm, transformer_lm.TransformerLM(config), text(), (tokens(),)


def recurrent_model(cell, **settings):
    sizes = {"vocab_size": VOCAB, "embed_dim": 8, "hidden_size": 16, "dropout": 0.1}
    model = char_rnn.CharRNN(char_rnn.CharRNNConfig(cell=cell, **sizes | settings))
    return char_rnn, model, text(), (tokens(),)


def unet(**settings):
    sizes = {"base_channels": 32, "num_groups": 4, "time_embed_dim": 8, "class_conditional": True}
    model = ddpm.UNet(ddpm.UNetConfig(**sizes | settings), DiffusionConfig(), SHAPE, 3)
    return ddpm, model, images(), (jnp.zeros((1, *SHAPE)), jnp.zeros(1, jnp.int32))


def vae(**settings):
    config = autoencoder.AutoencoderConfig(latent_dim=4, hidden_size=16, **settings)
    return autoencoder, autoencoder.Autoencoder(config, SHAPE), images(), (jnp.zeros((1, 64)),)


def sparse(**settings):
    config = sparse_autoencoder.SparseAutoencoderConfig(**settings)
    patches = np.random.default_rng(0).uniform(0.1, 0.9, (BATCH, 64)).astype(np.float32)
    model = sparse_autoencoder.SparseAutoencoder(config)
    return sparse_autoencoder, model, batch_of(patches=patches), (patches,)


def classifier(**settings):
    config = image_classifier.ImageClassifierConfig(channels=8, feature_dim=16, **settings)
    model = image_classifier.ImageClassifier(config, 3)
    return image_classifier, model, images(), (jnp.zeros((1, *SHAPE)),)


def normalized(norm, **settings):
    config = batchnorm_net.NormNetConfig(network="cnn", num_layers=3, **settings)
    model = batchnorm_net.NormNet(config, 3, norm)
    return batchnorm_net, model, images(), (jnp.zeros((1, *SHAPE)),)


def pairs(**settings):
    sizes = {"vocab_size": VOCAB, "channels": 4, "projection_dim": 8} | SIZES
    model = dual_encoder.DualEncoder(dual_encoder.DualEncoderConfig(**sizes | settings))
    batch = images() | {"tokens": tokens()}
    return dual_encoder, model, batch, (jnp.zeros((1, *SHAPE)), tokens())


def sentences(**settings):
    sizes = {"vocab_size": VOCAB, "context_length": TIME, "ngram_hash_buckets": 20} | SIZES
    model = text_encoder.TextClassifier(text_encoder.TextClassifierConfig(**sizes | settings))
    labels = (np.arange(BATCH) % 3).astype(np.int32)
    return text_encoder, model, batch_of(inputs=tokens(), labels=labels), (tokens(),)


def tagger(backbone, **settings):
    config = sequence_classifier.SequenceConfig(backbone=backbone, **SIZES | settings)
    model = sequence_classifier.SequenceClassifier(config, VOCAB, LABELS, TIME, True, True)
    batch = batch_of(TIME, inputs=tokens(), targets=tokens() % 2 + 3)
    return sequence_classifier, model, batch, (tokens(),)


def translator(backbone, **settings):
    config = sequence_classifier.SequenceConfig(backbone=backbone, **SIZES | settings)
    model = seq2seq.Seq2Seq(config, VOCAB, VOCAB, TIME, TIME)
    return seq2seq, model, text(), (tokens(), tokens())


CASES = {
    "transformer_lm": language_model,
    "transformer_lm_modern": functools.partial(language_model, **MODERN),
    "transformer_lm_tied": functools.partial(language_model, tie_embeddings=True, pre_norm=False),
    "lstm": functools.partial(recurrent_model, "lstm"),
    "gru": functools.partial(recurrent_model, "gru"),
    "ddpm": unet,
    "vae": vae,
    "sparse_autoencoder": sparse,
    "image_classifier": classifier,
    "batch_norm": functools.partial(normalized, "batch"),
    "layer_norm": functools.partial(normalized, "layer"),
    "dual_encoder": pairs,
    "text_encoder": sentences,
    "sequence_classifier": functools.partial(tagger, "lstm"),
    "seq2seq_gru": functools.partial(translator, "gru"),
    "seq2seq_transformer": functools.partial(translator, "transformer"),
}
every_model = pytest.mark.parametrize("name", CASES)


@functools.cache
def built(name, dtype="bfloat16"):
    """Returns the module of a model, the linen module, a batch and abstract variables."""
    module, model, batch, inputs = CASES[name](compute_dtype=dtype)
    return module, model, batch, jax.eval_shape(model.init, KEY, *inputs)


@functools.cache
def equations(name):
    """Returns every equation of the loss of a training batch and its gradients."""
    module, model, batch, variables = built(name)

    def loss(params, batch):
        return module.loss(model, variables_of(params, variables), batch, KEY, train=True).loss_sum

    jaxpr = jax.make_jaxpr(jax.value_and_grad(loss))(variables["params"], batch)
    return list(inner_equations(jaxpr.jaxpr))


def variables_of(params, variables):
    statistics = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape), dict(variables))
    return statistics | {"params": params}


def inner_equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in jax.tree.leaves(equation.params, is_leaf=is_jaxpr):
            if is_jaxpr(value):
                yield from inner_equations(getattr(value, "jaxpr", value))


def is_jaxpr(value):
    return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def dtypes_of(tree):
    return {
        leaf.dtype for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)
    }


def flops(equation):
    """Multiplications and additions of a matmul or a convolution."""
    (_, right), (out,) = (variable.aval for variable in equation.invars), equation.outvars
    if equation.primitive.name == "conv_general_dilated":
        features = equation.params["dimension_numbers"].rhs_spec[0]
        return 2 * out.aval.size * right.size // right.shape[features]
    ((_, contracted), _) = equation.params["dimension_numbers"]
    return 2 * out.aval.size * np.prod([right.shape[axis] for axis in contracted])


@every_model
def test_matmuls_have_bfloat16_operands(name):
    products = {"dot_general", "conv_general_dilated"}
    narrow, wide = 0, 0
    for equation in equations(name):
        if equation.primitive.name in products:
            is_narrow = {variable.aval.dtype for variable in equation.invars} == {BFLOAT16}
            narrow, wide = (
                narrow + is_narrow * flops(equation),
                wide + (not is_narrow) * flops(equation),
            )
    # CLIP's similarities of embeddings stay float32, as a part of the loss.
    assert narrow > (0.9 if name == "dual_encoder" else 0.999) * (narrow + wide) > 0


@every_model
def test_softmax_norms_and_losses_are_computed_in_float32(name):
    exact = {"exp", "exp2", "log", "log1p", "rsqrt", "sqrt", "reduce_max", "argmax", "div"}
    found = [
        (equation.primitive.name, *(str(variable.aval) for variable in equation.invars))
        for equation in equations(name)
        if equation.primitive.name in exact
        and BFLOAT16 in {getattr(variable.aval, "dtype", None) for variable in equation.invars}
    ]
    assert not found


@every_model
def test_a_step_keeps_the_dtypes_of_its_state(name):
    module, model, batch, variables = built(name)
    tx = optax.adam(1e-3)

    def create():
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)
        carry = char_rnn.initial_states(model.config, BATCH) if module is char_rnn else None
        return create_state(model, zeros, tx, ema_decay=0.9, grad_accum_steps=1, carry=carry)

    before = jax.eval_shape(create)
    after, metrics = jax.eval_shape(module.train_step, before, batch, KEY)
    assert dtypes_of((before, after, metrics)) == {FLOAT32}
    assert jax.tree.map(jnp.shape, before) == jax.tree.map(jnp.shape, after)


SAMPLES = np.zeros((2, 3), np.int32), np.array([1, 3], np.int32)


@pytest.mark.parametrize("past_context", ["half", "slide"])
@pytest.mark.parametrize("name", ["transformer_lm", "transformer_lm_modern", "transformer_lm_tied"])
def test_text_is_sampled_with_a_bfloat16_cache(name, past_context):
    _, model, _, variables = built(name)
    caches = jax.eval_shape(lambda: model.empty_caches(2))
    assert dtypes_of(caches) == {BFLOAT16}
    sample = functools.partial(
        transformer_lm.sample, model, max_new_tokens=TIME, past_context=past_context
    )
    found, _ = jax.eval_shape(sample, variables["params"], *SAMPLES, KEY)
    assert found.shape == (2, 3 + TIME)


@pytest.mark.parametrize("name", ["transformer_lm_modern", "gru"])
def test_decoding_equals_the_forward_pass(name, quickly_compiled):
    _, model, _, variables = built(name)
    random = np.random.default_rng(0)
    sampled = lambda leaf: random.normal(0, 0.3, leaf.shape).astype(np.float32)  # noqa: E731
    variables = jax.tree.map(sampled, variables)
    is_recurrent = name == "gru"
    whole = jax.jit(model.apply)(variables, tokens())
    carry = (
        char_rnn.initial_states(model.config, BATCH) if is_recurrent else model.empty_caches(BATCH)
    )

    @jax.jit
    def decode(carry, column, position):
        inputs = (column, carry) if is_recurrent else (column, carry, position)
        return model.apply(variables, *inputs, method="decode")

    for time in range(TIME):
        logits, carry = decode(carry, tokens()[:, time], time)
        expected = whole[0][:, time] if is_recurrent else whole[:, time]
        # Of logits with a standard deviation of about 1, from bfloat16 keys and values.
        np.testing.assert_allclose(logits, expected, atol=0.05)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_recurrent_states_are_float32(name):
    _, model, _, variables = built(name)
    sample = functools.partial(char_rnn.sample, model, max_new_tokens=4)
    found, _ = jax.eval_shape(sample, variables["params"], *SAMPLES, KEY)
    assert found.shape == (2, 7)
    logits, states = jax.eval_shape(model.apply, variables, tokens())
    assert dtypes_of((logits, states)) == {FLOAT32}


@pytest.mark.parametrize("name", ["seq2seq_gru", "seq2seq_transformer"])
def test_translations_are_found_by_beam_search(name):
    _, model, _, variables = built(name)
    translate = functools.partial(seq2seq.translate, model, beam_size=2)
    beams = jax.eval_shape(translate, variables["params"], tokens())
    assert dtypes_of(beams) == {FLOAT32}


@pytest.mark.parametrize("sampler", samplers.SAMPLERS)
def test_images_are_sampled_in_float32(sampler):
    _, model, _, variables = built("ddpm")
    sample = functools.partial(
        samplers.sample,
        ddpm.GuidedDenoiser(model, guided=True),
        shape=SHAPE,
        diffusion=model.diffusion,
        sampler=samplers.SamplerConfig(sampler=sampler, sampler_steps=4),
    )
    rows, labels = np.arange(2, dtype=np.int32), np.zeros(2, np.int32)
    found = jax.eval_shape(
        lambda params: sample((params, 2.0), KEY, rows, condition=labels), variables["params"]
    )
    assert dtypes_of(found) == {FLOAT32}


def test_functions_of_other_networks_return_float32():
    _, model, batch, variables = built("vae")
    params = variables["params"]
    found = [
        jax.eval_shape(functools.partial(autoencoder.encode, model), params, batch["images"]),
        jax.eval_shape(
            functools.partial(autoencoder.sample_prior, model, count=3), params, key=KEY
        ),
        jax.eval_shape(
            functools.partial(autoencoder.iwae_bound, model, samples=4), params, batch, KEY
        ),
    ]
    for name, module in {
        "image_classifier": image_classifier,
        "text_encoder": text_encoder,
    }.items():
        _, model, batch, variables = built(name)
        inputs = batch["images"] if name == "image_classifier" else batch["inputs"]
        predict = functools.partial(module.predict, model)
        found.append(jax.eval_shape(predict, variables["params"], inputs))
    assert dtypes_of(found) == {FLOAT32}


BOUNDS = {"dual_encoder": 0.02, "sparse_autoencoder": 0.01}
"""Relative difference of the initial loss from that in float32; measured: below a half of it."""


@every_model
def test_loss_is_close_to_that_of_float32_and_falls(name, quickly_compiled):
    module, model, batch, variables = built(name)
    _, exact, *_ = built(name, "float32")
    leaves, structure = jax.tree.flatten(variables)
    random = np.random.default_rng(0)
    values = [random.normal(0, 0.1, leaf.shape).astype(np.float32) for leaf in leaves]
    variables = jax.tree.unflatten(structure, values)
    if "batch_stats" in variables:
        variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])

    @jax.jit
    def losses_of(variables, batch):
        outputs = [module.loss(m, variables, batch, KEY, train=False) for m in (model, exact)]
        return [output.loss_sum / output.weight_sum for output in outputs]

    narrow, wide = losses_of(variables, batch)
    assert abs(narrow - wide) <= BOUNDS.get(name, 2e-3) * abs(wide)
    state = create_state(model, variables, optax.adam(1e-2))
    losses = []
    for _ in range(8):
        state, metrics = module.train_step(state, batch, KEY)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0]
