"""Samplers against diffusers' schedulers, step by step on the same outputs of a network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.diffusion.samplers import (
    ANCESTRAL,
    DDIM,
    DPM_SOLVER,
    SamplerConfig,
    _noise,
    sample,
    timesteps,
)
from jaxlabs.diffusion.schedules import DiffusionConfig, alpha_bars

SHAPE = (2, 2, 1)


def from_table(params, x, t, condition):
    """The same output at a time whatever x is: `params [T, *shape]`."""
    return params[t]


def their_states(scheduler, steps, output, start, noise, **arguments):
    """The state before each step of a diffusers scheduler, and the last one, `[steps + 1, ...]`."""
    torch = pytest.importorskip("torch")
    scheduler.set_timesteps(**steps)
    x = torch.from_numpy(start)
    states = [x.numpy()]
    for place, t in enumerate(scheduler.timesteps):
        more = arguments | ({"variance_noise": noise[place]} if "eta" in arguments else {})
        now = torch.from_numpy(output[int(t)]).expand(x.shape)
        x = scheduler.step(now, t, x, **more).prev_sample
        states.append(x.numpy())
    return np.stack(states), scheduler.timesteps.numpy()


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # diffusers' own
@pytest.mark.parametrize(
    ("settings", "prediction", "clip"),
    [
        ({"sampler": ANCESTRAL, "sampler_steps": 100}, "epsilon", True),
        ({"sampler": ANCESTRAL, "sampler_steps": 100}, "v", False),
        ({"sampler": ANCESTRAL, "sampler_steps": 20, "variance": "beta"}, "epsilon", False),
        ({"sampler": ANCESTRAL, "sampler_steps": 7, "spacing": "linspace"}, "v", True),
        ({"sampler": DDIM, "sampler_steps": 20}, "epsilon", False),
        ({"sampler": DDIM, "sampler_steps": 20}, "v", True),
        ({"sampler": DDIM, "sampler_steps": 10, "eta": 0.7}, "epsilon", True),
        ({"sampler": DPM_SOLVER, "sampler_steps": 20}, "epsilon", False),
        ({"sampler": DPM_SOLVER, "sampler_steps": 6}, "v", False),
    ],
)
def test_every_step_equals_that_of_diffusers(settings, prediction, clip, monkeypatch):
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    # Where time 0 is not visited, theirs adds noise of variance beta in the last step too.
    settings = {"spacing": "leading"} | settings
    diffusion = DiffusionConfig(diffusion_steps=100, last_beta=0.1, prediction=prediction)
    steps, rows, key = settings["sampler_steps"], jnp.arange(2), jax.random.key(3)
    output = np.random.default_rng(0).standard_normal((100, *SHAPE)).astype(np.float32) / 2
    sampler = SamplerConfig(clip_x0=clip, **settings)
    times = timesteps(diffusion, sampler)
    asked = tuple(int(t) for t in times)
    kind = {"shape": SHAPE, "diffusion": diffusion, "sampler": sampler, "snapshots": asked}
    ours = sample(from_table, output, key, rows, **kind)

    row_keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
    noise = [torch.from_numpy(np.array(_noise(row_keys, t, SHAPE, jnp.float32))) for t in asked]
    common = {
        "num_train_timesteps": 100,
        "beta_start": 1e-4,
        "beta_end": 0.1,
        "prediction_type": {"epsilon": "epsilon", "v": "v_prediction"}[prediction],
        "timestep_spacing": settings["spacing"],
    }
    arguments, plan = {}, {"num_inference_steps": steps}
    if settings["sampler"] == DPM_SOLVER:
        scheduler = diffusers.DPMSolverMultistepScheduler(**common)
        plan = {"timesteps": list(asked)}
    elif settings["sampler"] == DDIM:
        scheduler = diffusers.DDIMScheduler(**common, clip_sample=clip)
        arguments = {"eta": settings.get("eta", 0.0), "use_clipped_model_output": True}
    else:
        variance = "fixed_large" if settings.get("variance") == "beta" else "fixed_small"
        scheduler = diffusers.DDPMScheduler(**common, clip_sample=clip, variance_type=variance)
        waiting = iter(noise)
        monkeypatch.setattr(
            "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(waiting)
        )
    # Theirs are float32, in which 1 - 0.9999 has three digits.
    scheduler.alphas_cumprod = torch.from_numpy(alpha_bars(diffusion))
    start = np.array(ours.snapshots[0])
    states, visited = their_states(scheduler, plan, output, start, noise, **arguments)
    np.testing.assert_array_equal(times, visited)
    got = np.concatenate([ours.snapshots, ours.images[None]])
    np.testing.assert_allclose(got, states, atol=1e-5, rtol=1e-5)
