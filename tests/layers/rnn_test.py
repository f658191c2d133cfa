"""RNN layers against numpy, autodiff, central differences and PyTorch."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from jaxlabs.layers.cpu.rnn_scan import lstm_backward, rnn_scan
from jaxlabs.layers.rnn import Recurrent, RecurrentLayer, zero_state
from jaxlabs.layers.rnn_cells import CELLS, scan_cell
from jaxlabs.training.gradient_check import check

pytestmark = pytest.mark.usefixtures("quickly_compiled")

BATCH, TIME, FEATURES, HIDDEN = 4, 6, 3, 5
LENGTHS = np.array([6, 3, 0, 1])  # one full sequence, one of padding alone
MASK = np.arange(TIME)[None, :] < LENGTHS[:, None]
NUM_GATES = {"rnn": 1, "lstm": 4, "gru": 3}


def x_of(batch=BATCH, time=TIME):
    return np.random.default_rng(0).standard_normal((batch, time, FEATURES)).astype(np.float32)


def module(cell, **options):
    return Recurrent(
        cell=cell, features=FEATURES, hidden_size=HIDDEN, **{"precision": "highest"} | options
    )


@functools.cache
def parameters(model):
    """Nonzero parameters."""
    params = jax.jit(model.init)(jax.random.key(0), x_of())["params"]
    return jax.tree.map(lambda leaf: leaf + 0.1, params)


def reference(cell, layer, x, mask, reverse=False):
    """One layer over `x [batch, time, in]`, one sequence at a time, in float64 numpy."""
    layer = {name: np.asarray(leaf, np.float64) for name, leaf in layer.items()}
    outputs = np.zeros((*x.shape[:2], HIDDEN))
    last = np.zeros((len(CELLS[cell].state), len(x), HIDDEN))
    for row, sequence in enumerate(x):
        h, c = np.zeros(HIDDEN), np.zeros(HIDDEN)
        for time in range(x.shape[1])[:: -1 if reverse else 1]:
            if not mask[row, time]:
                continue
            a = sequence[time] @ layer["input_kernel"] + layer["bias"]
            b = h @ layer["recurrent_kernel"]
            gates = [slice(k * HIDDEN, (k + 1) * HIDDEN) for k in range(4)]
            if cell == "rnn":
                h = np.tanh(a + b)
            elif cell == "lstm":
                i, f, g, o = ((a + b)[gate] for gate in gates)
                c = expit(f) * c + expit(i) * np.tanh(g)
                h = expit(o) * np.tanh(c)
            else:
                r, z = (expit((a + b)[gate]) for gate in gates[:2])
                n = np.tanh(a[gates[2]] + r * (b[gates[2]] + layer["candidate_bias"]))
                h = (1 - z) * n + z * h
            outputs[row, time] = h
        last[:, row] = (h, c)[: len(last)]
    return outputs, last


@pytest.mark.parametrize("cell", CELLS)
def test_stacked_bidirectional_layers_with_mask_equal_numpy(cell):
    model, x = module(cell, num_layers=2, bidirectional=True), x_of()
    params = parameters(model)
    outputs, states = jax.jit(model.apply)({"params": params}, x, mask=MASK)
    expected, lasts = x, []
    for layer in range(2):
        both = [
            reference(cell, params[f"stack_{2 * layer + k}"], expected, MASK, reverse=k == 1)
            for k in range(2)
        ]
        expected = np.concatenate([output for output, _ in both], axis=-1)
        lasts += [last for _, last in both]
    chex.assert_shape(outputs, (BATCH, TIME, 2 * HIDDEN))
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    for state, last in zip(states, lasts, strict=True):
        np.testing.assert_allclose(np.stack(state), last, atol=1e-5)
    assert not outputs[~MASK].any()


@pytest.mark.parametrize("cell", ["lstm"])
def test_leading_and_interior_padding_is_skipped_like_trailing_padding(cell):
    model, x = module(cell, bidirectional=True), x_of(batch=1)
    apply, params = jax.jit(model.apply), parameters(model)
    index = np.array([1, 2, 4])
    mask = np.zeros((1, TIME), bool)
    mask[0, index] = True
    outputs, states = apply({"params": params}, x, mask=mask)
    alone, alone_states = apply({"params": params}, x[:, index])
    np.testing.assert_allclose(outputs[:, index], alone, atol=1e-6)
    chex.assert_trees_all_close(states, alone_states, atol=1e-6)


def plain_scan(cell, input_gates, kernel, bias, state, mask, reverse):
    """The scan of other platforms, differentiated by autodiff."""
    states = scan_cell(
        cell, input_gates, kernel, bias, state, mask, reverse=reverse, precision="highest"
    ).states
    return states[0], tuple(each[0 if reverse else -1] for each in states)


@pytest.mark.parametrize(
    ("cell", "reverse"), [("rnn", False), ("lstm", False), ("gru", False), ("gru", True)]
)
def test_custom_vjp_equals_autodiff_of_the_scan(cell, reverse):
    gates_size = NUM_GATES[cell] * HIDDEN
    random = np.random.default_rng(1)
    normal = lambda *shape: random.standard_normal(shape).astype(np.float32)  # noqa: E731
    state = tuple(normal(BATCH, HIDDEN) for _ in CELLS[cell].state)
    arguments = (
        normal(TIME, BATCH, gates_size),
        normal(HIDDEN, gates_size),
        normal(gates_size),
        state,
    )
    wanted = jax.tree.map(lambda leaf: normal(*leaf.shape), (normal(TIME, BATCH, HIDDEN), state))

    def value_and_grad(run):
        def total(arguments):
            found = run(*arguments)
            return sum(map(jnp.vdot, jax.tree.leaves(found), jax.tree.leaves(wanted)))

        return jax.jit(jax.value_and_grad(total))(arguments)

    ours = value_and_grad(lambda *a: rnn_scan(cell, reverse, "highest", *a, MASK.T))
    theirs = value_and_grad(lambda *a: plain_scan(cell, *a, MASK.T, reverse))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_only_cpus_sum_the_kernel_gradient_over_all_steps_at_once():
    model, x = module("lstm"), x_of()

    def total(params):
        return jnp.sum(model.apply({"params": params}, x, mask=MASK)[0])

    traced = jax.jit(jax.grad(total)).trace(parameters(model))
    cpu, tpu = (traced.lower(lowering_platforms=(name,)).as_text() for name in ("cpu", "tpu"))
    rows_of_all_steps = f"tensor<{TIME * BATCH}x{HIDDEN}xf32>"
    assert rows_of_all_steps in cpu
    assert rows_of_all_steps not in tpu


@pytest.mark.parametrize("cell", CELLS)
def test_trace_has_the_states_of_the_layer_and_takes_perturbations(cell):
    layer, x = RecurrentLayer(cell, FEATURES, HIDDEN), x_of()
    variables = layer.init(jax.random.key(0), x, method="trace")
    (zeros,) = zero_state(cell, HIDDEN, 1, BATCH)
    h, last = layer.apply(variables, x.swapaxes(0, 1), zeros)
    trace = layer.apply(variables, x, method="trace")
    np.testing.assert_allclose(trace.states[0], h.swapaxes(0, 1), atol=1e-6)
    chex.assert_trees_all_close(tuple(s[:, -1] for s in trace.states), last, atol=1e-6)
    chex.assert_shape(jax.tree.leaves(trace), (BATCH, TIME, HIDDEN))
    assert len(trace.gates) == NUM_GATES[cell] + (cell == "gru")

    perturbations = jax.tree.map(lambda s: jnp.zeros_like(s).at[1, 2].set(0.5), trace.states)
    perturbed = layer.apply(variables, x, perturbations, method="trace")
    change = jax.tree.map(jnp.subtract, perturbed.states, trace.states)
    for each in change:
        np.testing.assert_allclose(each[:, :2], 0, atol=1e-6)
        np.testing.assert_allclose(each[1, 2], 0.5, rtol=1e-5)
        np.testing.assert_allclose(np.delete(each, 1, axis=0), 0, atol=1e-6)
        assert np.abs(each[1, 3]).max() > 1e-3


def test_a_gru_without_candidate_bias_equals_one_whose_bias_is_zero():
    x = x_of().swapaxes(0, 1)
    (state,) = zero_state("gru", HIDDEN, 1, BATCH)
    full, without = (RecurrentLayer("gru", FEATURES, HIDDEN, candidate_bias=b) for b in (1, 0))
    params = full.init(jax.random.key(0), x, state)["params"]
    bare = {name: leaf for name, leaf in params.items() if name != "candidate_bias"}
    zeroed = params | {"candidate_bias": jnp.zeros(HIDDEN)}
    expected = full.apply({"params": zeroed}, x, state)
    chex.assert_trees_all_close(without.apply({"params": bare}, x, state), expected, atol=1e-6)
    assert without.init(jax.random.key(0), x, state)["params"].keys() == bare.keys()


def test_lstm_gates_are_sigmoids_also_at_saturation():
    a = np.repeat(np.float32([-100, -20, -1, 0, 1, 20, 100]), 4 * HIDDEN).reshape(7, -1)
    state = (np.zeros((7, HIDDEN), np.float32),) * 2
    new_state, (joined,) = CELLS["lstm"].forward(a, np.zeros_like(a), state)
    i, f, g, o = np.split(np.asarray(joined), 4, axis=-1)
    for gate in (i, f, o):
        np.testing.assert_allclose(gate, expit(a[:, :HIDDEN]), atol=1e-7)
        assert gate.min() >= 0
        assert gate.max() <= 1
    np.testing.assert_allclose(g, np.tanh(a[:, :HIDDEN]), atol=1e-7)
    d_gates, _ = lstm_backward((np.ones_like(i),) * 2, new_state, state, (joined,))
    assert np.isfinite(d_gates).all()


@pytest.mark.parametrize("cell", CELLS)
def test_bfloat16_gradients_are_close_to_float32(cell):
    params, x = parameters(module(cell)), x_of()

    def total(params, precision):
        outputs, _ = module(cell, precision=precision).apply({"params": params}, x)
        return jnp.sum(outputs**2)

    bf16, f32 = (
        jax.flatten_util.ravel_pytree(jax.jit(jax.grad(total), static_argnums=1)(params, name))[0]
        for name in ("bfloat16", "highest")
    )
    error = float(jnp.linalg.norm(bf16 - f32) / jnp.linalg.norm(f32))
    assert 1e-5 < error < 2e-2


@pytest.mark.parametrize("cell", CELLS)
def test_gradients_equal_central_differences_in_float64(cell):
    model, x = module(cell, num_layers=2), x_of(batch=3, time=4)
    mask, wanted = MASK[:3, :4], np.random.default_rng(2).standard_normal((3, 4, HIDDEN))

    def loss(params, x, wanted):
        outputs, states = model.apply({"params": params}, x, mask=mask)
        total = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(states))
        return jnp.sum(outputs * wanted) + total

    found = check(loss, parameters(model), x, wanted, max_entries=20, key=jax.random.key(1))
    assert found.worst.relative_difference < 1e-7, str(found)


@pytest.mark.parametrize("cell", ["lstm"])
def test_a_sequence_in_two_chunks_with_carried_state_equals_the_whole(cell):
    model, x = module(cell, num_layers=2), x_of()
    variables, apply = {"params": parameters(model)}, jax.jit(model.apply)
    whole, states = apply(variables, x)
    first, carried = apply(variables, x[:, :4])
    second, ends = apply(variables, x[:, 4:], carried)
    np.testing.assert_allclose(jnp.concatenate([first, second], 1), whole, atol=1e-6)
    chex.assert_trees_all_close(ends, states, atol=1e-6)


@pytest.mark.parametrize("cell", CELLS)
def test_steps_equal_the_whole_sequence(cell):
    model, x = module(cell, num_layers=2), x_of()
    variables = {"params": parameters(model)}
    whole, ends = jax.jit(model.apply)(variables, x)
    step = jax.jit(lambda x, states: model.apply(variables, x, states, method="step"))
    states = zero_state(cell, HIDDEN, 2, BATCH)
    outputs = []
    for time in range(TIME):
        output, states = step(x[:, time], states)
        outputs.append(output)
    np.testing.assert_allclose(np.stack(outputs, 1), whole, atol=1e-6)
    chex.assert_trees_all_close(states, ends, atol=1e-6)


def test_dropout_is_applied_between_layers_only():
    keys = jax.random.split(jax.random.key(0), BATCH)
    for layers in (1, 2):
        model = module("gru", num_layers=layers, dropout=0.5)
        variables = {"params": parameters(model)}
        dropped, _ = model.apply(variables, x_of(), dropout_keys=keys)
        kept, _ = model.apply(variables, x_of())
        assert np.allclose(dropped, kept) == (layers == 1)


def test_initialization_follows_the_documentation():
    model = Recurrent(cell="lstm", features=7, hidden_size=64)
    layer = model.init(jax.random.key(0), np.zeros((1, 1, 7)))["params"]["stack_0"]
    i, f, g, o = np.split(layer["bias"], 4)
    np.testing.assert_array_equal(f, 1)
    for leaf in (layer["input_kernel"], layer["recurrent_kernel"], i, g, o):
        assert np.abs(leaf).max() <= 1 / 8
        assert np.abs(leaf).std() == pytest.approx(1 / 8 / 12**0.5, rel=0.25)
    model = Recurrent(cell="gru", features=7, hidden_size=64, recurrent_init="orthogonal")
    kernel = model.init(jax.random.key(0), np.zeros((1, 1, 7)))["params"]["stack_0"]
    for block in np.split(kernel["recurrent_kernel"], 3, axis=1):
        np.testing.assert_allclose(block.T @ block, np.eye(64), atol=1e-5)
    # Two batched QR factorizations at the same time can deadlock on CPUs.
    jaxpr = str(jax.make_jaxpr(model.init)(jax.random.key(0), np.zeros((1, 1, 7))))
    assert "= qr[" in jaxpr
    assert "f32[3,64,64]" not in jaxpr


@pytest.mark.parametrize("cell", ["lstm"])
def test_length_one_and_batch_one(cell):
    model = module(cell, bidirectional=True)
    outputs, states = model.apply({"params": parameters(model)}, x_of(1, 1))
    chex.assert_shape(outputs, (1, 1, 2 * HIDDEN))
    np.testing.assert_array_equal(outputs[:, 0], np.concatenate([s[0] for s in states], -1))


def test_empty_sequences_and_bidirectional_steps_are_refused():
    with pytest.raises(ValueError, match="length 0"):
        module("rnn").init(jax.random.key(0), np.zeros((2, 0, FEATURES)))
    model = module("rnn", bidirectional=True)
    with pytest.raises(ValueError, match="step by step"):
        model.apply({"params": parameters(model)}, x_of()[:, 0], (), method="step")


@pytest.mark.peers
@pytest.mark.parametrize("cell", CELLS)
def test_outputs_and_gradients_equal_pytorch(cell, copy_parameters):
    torch = pytest.importorskip("torch")

    model, x = module(cell, num_layers=2, bidirectional=True), x_of()[LENGTHS > 0]
    params, lengths = parameters(model), LENGTHS[LENGTHS > 0]
    wanted = np.random.default_rng(3).standard_normal((*x.shape[:2], 2 * HIDDEN))
    wanted = wanted.astype(np.float32)

    def loss(params, x):
        outputs, states = model.apply({"params": params}, x, mask=MASK[LENGTHS > 0])
        return jnp.sum(outputs * wanted) + sum(jnp.sum(s[-1] ** 2) for s in states), outputs

    grad = jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))
    (gradients, x_gradient), outputs = grad(params, x)

    build = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell]
    options = {"num_layers": 2, "bidirectional": True, "batch_first": True}
    torch_rnn, expected = (build(x.shape[-1], HIDDEN, **options) for _ in range(2))
    copy_parameters(torch_rnn, params)
    copy_parameters(expected, gradients, gradients=True)
    inputs = torch.tensor(x, requires_grad=True)
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        inputs, lengths, batch_first=True, enforce_sorted=False
    )
    theirs, last = torch_rnn(packed)
    theirs, _ = torch.nn.utils.rnn.pad_packed_sequence(theirs, batch_first=True)
    last = last[1] if cell == "lstm" else last
    ((theirs * torch.tensor(wanted)).sum() + (last**2).sum()).backward()
    np.testing.assert_allclose(outputs, theirs.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(x_gradient, inputs.grad.numpy(), atol=1e-5)
    for (name, parameter), gradient in zip(
        torch_rnn.named_parameters(), expected.parameters(), strict=True
    ):
        np.testing.assert_allclose(
            gradient.detach().numpy(), parameter.grad.numpy(), atol=1e-5, err_msg=name
        )
