"""How gradients travel back through time: what eigenvalues and cells make of them.

The recurrence of a plain network multiplies the gradient by `W^T diag(1 - h^2)` at every step back
(Pascanu, Mikolov and Bengio 2013, "On the difficulty of training recurrent neural networks").
"""

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats

from jaxlabs.analysis.functional_rnn import Params, read_out, trace, zero_perturbations
from jaxlabs.layers.rnn_cells import State

QUANTILES = (0.1, 0.5, 0.9)

MATRICES = ("orthogonal", "gaussian")
RADII = (0.5, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.25, 1.5, 2.0)
BATCH, DRIVE = 16, 0.5
"""Of the sweep: sequences, and the deviation of the input that drives each unit."""

Loss = Callable[[jax.Array], jax.Array]


def state_gradients(
    cell: str, params: Params, inputs: jax.Array, loss: Loss, *, stop_gate_gradients: bool = False
) -> State:
    """Returns a loss's gradient by the states after every step, `[time, batch, hidden]` each.

    The gradient by one state leaves the others after the same step as they are: that by an LSTM's c
    does not go through the h of its own step.

    Args:
      cell: a name in `CELLS`.
      params: of the network.
      inputs: `[batch, time, inputs]`, in the parameters' dtype.
      loss: of h after the last step, `[batch, hidden] -> []`, a sum over the batch.
      stop_gate_gradients: see `trace`.
    """

    def of_nudges(perturbations: State) -> jax.Array:
        states, _ = trace(
            cell, params, inputs, perturbations, stop_gate_gradients=stop_gate_gradients
        )
        return loss(states[0][-1])

    return jax.grad(of_nudges)(zero_perturbations(cell, inputs, len(params["recurrent_kernel"])))


def answer_loss(params: Params, targets: jax.Array) -> Loss:
    """Returns the squared error, summed over the batch, of what is read out at the end.

    Args:
      params: with the read-out.
      targets: `[batch]`.
    """
    return lambda h: jnp.sum(jnp.square(read_out(params, h)[:, 0] - targets))


def through_time(
    networks: Mapping[str, tuple[str, Params]], inputs: np.ndarray, targets: np.ndarray
) -> dict[str, np.ndarray]:
    """Measures in float64 how large the gradient of the last answer is at every step before it.

    Args:
      networks: name -> (cell, parameters).
      inputs: `[batch, time, inputs]`.
      targets: `[batch]` of the answer.

    Returns:
      `<name>_h [time, 3]`, and `<name>_c` of an LSTM: the QUANTILES over sequences of the norm of
      the gradient by h (or c) of that step, as a share of that by the last h.
    """
    found = {}
    with jax.enable_x64(True):
        inputs, targets = jnp.float64(inputs), jnp.float64(targets)
        for name, (cell, params) in networks.items():
            params = jax.tree.map(jnp.float64, dict(params))
            gradients = jax.jit(
                lambda params, cell=cell: state_gradients(
                    cell, params, inputs, answer_loss(params, targets)
                )
            )(params)
            norms = [np.linalg.norm(gradient, axis=-1) for gradient in gradients]
            for state, norm in zip("hc", norms, strict=False):
                shares = norm / norms[0][-1:]
                found[f"{name}_{state}"] = np.quantile(shares, QUANTILES, axis=1).T
    return found


def spectral_sweep(
    hidden_size: int, steps: int, seed: int, radii: Sequence[float] = RADII
) -> dict[str, np.ndarray]:
    """Measures how the gradient by h shrinks or grows against the spectral radius, in float64.

    Every recurrent matrix is one orthogonal and one Gaussian matrix scaled to the radius. At rest,
    without input, tanh has the slope 1 and the network is linear: the gradient of an orthogonal
    matrix is exactly `radius ** distance`, that of a Gaussian one in the long run. Driven by random
    inputs, tanh has slopes below 1.

    Returns:
      `radii`; per matrix and per case "rest" and "driven" `<matrix>_<case> [radius, distance]`, the
      norm at distances 0 to `steps` before the end, as a geometric mean over sequences, and
      `<matrix>_<case>_factor [radius]`, by what one step multiplies it.
    """
    random = np.random.default_rng(seed)
    gaussian = random.standard_normal((hidden_size, hidden_size))
    matrices = {
        "orthogonal": scipy.stats.ortho_group(hidden_size, random).rvs(),
        "gaussian": gaussian / np.abs(np.linalg.eigvals(gaussian)).max(),
    }
    towards = random.standard_normal(hidden_size)
    inputs = random.normal(0, DRIVE, (BATCH, steps + 1, hidden_size))
    found = {"radii": np.array(radii)}
    with jax.enable_x64(True):

        @jax.jit
        def norms(kernel: jax.Array, inputs: jax.Array) -> jax.Array:
            zeros = jnp.zeros(hidden_size)
            params = {
                "input_kernel": jnp.eye(hidden_size),
                "bias": zeros,
                "recurrent_kernel": kernel,
            }
            end = jnp.asarray(towards / np.linalg.norm(towards))
            gradients, *_ = state_gradients("rnn", params, inputs, lambda h: jnp.sum(h @ end))
            return jnp.mean(jnp.log(jnp.linalg.norm(gradients, axis=-1)), axis=1)[::-1]

        for name, matrix in matrices.items():
            for case, driving in (("rest", np.zeros_like(inputs[:1])), ("driven", inputs)):
                rows = [np.exp(norms(jnp.asarray(radius * matrix), driving)) for radius in radii]
                found[f"{name}_{case}"] = np.stack(rows)
                found[f"{name}_{case}_factor"] = factor_per_step(np.stack(rows))
    return found


def factor_per_step(norms: np.ndarray) -> np.ndarray:
    """Returns by what one step back multiplies the norms `[..., distance]` on average, `[...]`.

    The first half of the way is left out: a matrix that is not normal starts off otherwise.
    """
    middle = norms.shape[-1] // 2
    ratio = norms[..., -1] / norms[..., middle]
    return ratio ** (1 / (norms.shape[-1] - 1 - middle))


def figures(sweep: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the factor per step of `spectral_sweep` at each radius, by name, and its error."""
    named = {}
    for name in ("orthogonal_rest", "orthogonal_driven", "gaussian_driven"):
        for radius, factor in zip(sweep["radii"], sweep[f"{name}_factor"], strict=True):
            named[f"factor_{name}_radius_{radius:g}"] = float(factor)
    distances = np.arange(sweep["orthogonal_rest"].shape[-1])
    expected = sweep["radii"][:, None] ** distances[None]
    error = np.abs(sweep["orthogonal_rest"] / expected - 1).max()
    return named | {"largest_relative_error_of_geometric_prediction": float(error)}
