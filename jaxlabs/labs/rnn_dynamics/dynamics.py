"""Vanishing and exploding gradients through time, against spectral radius and cell type.

A tanh RNN multiplies the gradient by `W^T diag(1 - h^2)` at every step of the backward pass
(Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks").
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxlabs.labs.rnn_dynamics.network import Params, output_layer, trace, zero_perturbations
from jaxlabs.layers.rnn_cells import State

QUANTILES = (0.1, 0.5, 0.9)

RADII = (0.5, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0)
BATCH, INPUT_STD = 16, 0.5
"""Sequences of the sweep, and standard deviation of the input of each unit."""

Loss = Callable[[jax.Array], jax.Array]


def state_gradients(
    cell: str, params: Params, inputs: jax.Array, loss: Loss, *, stop_gate_gradients: bool = False
) -> State:
    """Returns the gradient of a loss with respect to every state, `[batch, time, hidden]` each.

    Other states of the same step are held constant: the gradient with respect to an LSTM's c does
    not pass through the h of the same step.

    The loss is a function of the last h, `[batch, hidden] -> []`, a sum over the batch; `inputs
    [batch, time, inputs]` have the parameters' dtype. See `RecurrentLayer.trace`.
    """
    options = {"stop_gate_gradients": stop_gate_gradients}

    def loss_of_perturbations(perturbations: State) -> jax.Array:
        return loss(trace(cell, params, inputs, perturbations, **options).states[0][:, -1])

    return jax.grad(loss_of_perturbations)(zero_perturbations(cell, params, inputs))


def final_output_loss(params: Params, targets: jax.Array) -> Loss:
    """Returns the squared error from `targets [batch]` of the output for the last h, summed."""
    return lambda h: jnp.sum(jnp.square(output_layer(params, h)[:, 0] - targets))


def through_time(
    networks: Mapping[str, tuple[str, Params]], inputs: np.ndarray, targets: np.ndarray
) -> dict[str, np.ndarray]:
    """Measures the gradient of the final output's loss with respect to every state, in float64.

    Args:
      networks: (cell, parameters) by name.
      inputs: [batch, time, inputs].
      targets: [batch], of the final output.

    Returns:
      `<name>_h [time, 3]`, and `<name>_c` of an LSTM: QUANTILES over sequences of the gradient norm
      with respect to h (or c) of each step, relative to that of the last h.
    """

    @functools.partial(jax.jit, static_argnums=0)
    def gradients(cell, params):
        return state_gradients(cell, params, inputs, final_output_loss(params, targets))

    result = {}
    with jax.enable_x64(True):
        inputs, targets = jnp.float64(inputs), jnp.float64(targets)
        for name, (cell, params) in networks.items():
            by_state = gradients(cell, jax.tree.map(jnp.float64, dict(params)))
            norms = [np.linalg.norm(gradient, axis=-1) for gradient in by_state]
            for state, norm in zip("hc", norms, strict=False):
                relative = norm / norms[0][:, -1:]
                result[f"{name}_{state}"] = np.quantile(relative, QUANTILES, axis=0).T
    return result


def spectral_sweep(
    hidden_size: int, steps: int, seed: int, radii: Sequence[float] = RADII
) -> dict[str, np.ndarray]:
    """Measures the decay or growth of the gradient against the spectral radius, in float64.

    The recurrent matrices are an orthogonal and a Gaussian matrix, scaled to each radius. Without
    input ("rest") the slope of tanh is 1 and the network is linear: the gradient norm is exactly
    `radius ** distance` for an orthogonal matrix, and asymptotically so for a Gaussian one. With
    random inputs ("driven") the slopes of tanh are below 1.

    Returns:
      `radii`; for each matrix and case ("rest", "driven") `<matrix>_<case> [radius, distance]`, the
      gradient norm at distances 0 to `steps` from the end, a geometric mean over sequences, and
      `<matrix>_<case>_factor [radius]`, its factor per step.
    """
    from scipy.stats import ortho_group

    rng = np.random.default_rng(seed)
    gaussian = rng.standard_normal((hidden_size, hidden_size))
    matrices = {
        "orthogonal": ortho_group(hidden_size, rng).rvs(),
        "gaussian": gaussian / np.abs(np.linalg.eigvals(gaussian)).max(),
    }
    direction = rng.standard_normal(hidden_size)
    inputs = rng.normal(0, INPUT_STD, (BATCH, steps + 1, hidden_size))

    @jax.jit
    def norms(kernel, inputs):
        params = {"input_kernel": jnp.eye(hidden_size), "bias": jnp.zeros(hidden_size)}
        params["recurrent_kernel"] = kernel
        end = jnp.asarray(direction / np.linalg.norm(direction))
        gradients, *_ = state_gradients("rnn", params, inputs, lambda h: jnp.sum(h @ end))
        return jnp.mean(jnp.log(jnp.linalg.norm(gradients, axis=-1)), axis=0)[::-1]

    result = {"radii": np.array(radii)}
    with jax.enable_x64(True):
        for name, matrix in matrices.items():
            for case, driving in (("rest", np.zeros_like(inputs[:1])), ("driven", inputs)):
                rows = [np.exp(norms(jnp.asarray(radius * matrix), driving)) for radius in radii]
                result[f"{name}_{case}"] = np.stack(rows)
                result[f"{name}_{case}_factor"] = factor_per_step(np.stack(rows))
    return result


def factor_per_step(norms: np.ndarray) -> np.ndarray:
    """Returns the mean factor per step `[...]` of norms `[..., distance]`.

    The first half is excluded, because non-normal matrices have transients there.
    """
    middle = norms.shape[-1] // 2
    ratio = norms[..., -1] / norms[..., middle]
    return ratio ** (1 / (norms.shape[-1] - 1 - middle))


def metrics(sweep: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the factors per step of `spectral_sweep` and the error of the prediction, by name."""
    metrics = {
        f"factor_{name}_radius_{radius:g}": float(factor)
        for name in ("orthogonal_rest", "orthogonal_driven", "gaussian_driven")
        for radius, factor in zip(sweep["radii"], sweep[f"{name}_factor"], strict=True)
    }
    distances = np.arange(sweep["orthogonal_rest"].shape[-1])
    error = np.abs(sweep["orthogonal_rest"] / sweep["radii"][:, None] ** distances[None] - 1)
    return metrics | {"largest_relative_error_of_geometric_prediction": float(error.max())}
