"""The PyTorch models and training step of the benchmark equal ours."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.models.char_rnn import CharRNN, CharRNNConfig, train_step
from jaxlabs.training.optimizer_config import OptimizerConfig
from jaxlabs.training.optimizers import build_optimizer
from jaxlabs.training.schedules import build_schedule
from jaxlabs.training.state import count_parameters, create_state

torch = pytest.importorskip("torch")
from jaxlabs.benchmark.peers.torch_cases import Mode, build_step  # noqa: E402
from jaxlabs.benchmark.peers.torch_models import CharRNN as TorchCharRNN  # noqa: E402

pytestmark = [pytest.mark.peers, pytest.mark.usefixtures("quickly_compiled")]

TINY = CharRNNConfig(vocab_size=7, embed_dim=5, hidden_size=6, bptt_length=4)


def tokens_of(config, rows=3):
    random = np.random.default_rng(0)
    return random.integers(0, config.vocab_size, (rows, config.bptt_length + 1))


@functools.cache
def initial(cell):
    config = dataclasses.replace(TINY, cell=cell)
    model = CharRNN(config)
    params = jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 1), jnp.int32))["params"]
    return model, params


def mean_loss(torch_model, tokens, state=None):
    logits, _ = torch_model(tokens[:, :-1], state)
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_the_pytorch_rnn_has_our_parameters_and_logits(cell, copy_parameters):
    model, params = initial(cell)
    torch_model, tokens = TorchCharRNN(model.config), tokens_of(model.config)
    copy_parameters(torch_model, params)
    ours, _ = model.apply({"params": params}, tokens[:, :-1])
    theirs, _ = torch_model(torch.from_numpy(tokens[:, :-1]))
    np.testing.assert_allclose(theirs.detach(), ours, atol=1e-6)
    # PyTorch has two biases per gate; both are needed only in a GRU's candidate.
    redundant = {"lstm": 4, "gru": 2}[cell] * model.config.hidden_size
    assert (
        sum(leaf.numel() for leaf in torch_model.parameters())
        == count_parameters(params) + redundant
    )


def test_a_pytorch_step_equals_ours_with_clipping_and_weight_decay(copy_parameters):
    settings = OptimizerConfig(learning_rate=0.01, weight_decay=0.5, grad_clip_norm=0.05)
    model, params = initial("lstm")
    tokens = tokens_of(model.config)
    torch_model = TorchCharRNN(model.config)
    copy_parameters(torch_model, params)
    inputs = torch.from_numpy(tokens)
    step = build_step(
        torch_model, lambda torch_model: mean_loss(torch_model, inputs), settings, Mode()
    )
    tx = build_optimizer(settings, build_schedule(settings, 10))
    batch = {
        "inputs": tokens[:, :-1].astype(np.int32),
        "targets": tokens[:, 1:].astype(np.int32),
        "weights": np.ones((3, 4), np.float32),
        "example_index": np.arange(3, dtype=np.int32),
    }
    state = create_state(model, {"params": jax.tree.map(jnp.copy, params)}, tx)
    state, metrics = train_step(state, batch, jax.random.key(0))
    assert step() == pytest.approx(float(metrics["loss"]), rel=1e-5)
    layer, head = state.params["recurrent"]["stack_0"], state.params["head"]
    expected = {
        "embedding.weight": state.params["embedding"]["embedding"],
        "recurrent.weight_ih_l0": layer["input_kernel"].T,
        "recurrent.weight_hh_l0": layer["recurrent_kernel"].T,
        "recurrent.bias_ih_l0": layer["bias"],
        "head.weight": head["kernel"].T,
        "head.bias": head["bias"],
    }
    got = dict(torch_model.named_parameters())
    for name, values in expected.items():
        np.testing.assert_allclose(got[name].detach(), values, atol=2e-5, err_msg=name)


def test_unsupported_optimizers_are_refused():
    torch_model = TorchCharRNN(TINY)
    with pytest.raises(ValueError, match="AdamW at a constant learning rate"):
        build_step(torch_model, mean_loss, OptimizerConfig(optimizer="muon"), Mode())


@pytest.mark.filterwarnings("ignore:Guards may run slower on Python 3.13.0")
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_compiled_rnn_has_one_graph(cell):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    config = dataclasses.replace(TINY, cell=cell)
    called = Mode(compiled=True).ready(TorchCharRNN(config), backend=backend)
    called(torch.from_numpy(tokens_of(config)[:, :-1]))
    assert len(graphs) == 1
