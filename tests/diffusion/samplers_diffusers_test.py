"""Samplers against diffusers' schedulers, step by step with equal network outputs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxlabs.diffusion.noise_schedules import DiffusionConfig, alphas_cumprod
from jaxlabs.diffusion.samplers import (
    ANCESTRAL,
    DDIM,
    DPM_SOLVER,
    SamplerConfig,
    _noise,
    coefficients,
    sample,
    timesteps,
)

SHAPE = (2, 2, 1)

pytestmark = [
    pytest.mark.peers,
    # raised by diffusers
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def from_table(params, x, t, condition):
    """Outputs `params [T, *shape]` independent of x."""
    return params[t]


def their_states(scheduler, steps, output, start, noise, **arguments):
    """The states of a diffusers scheduler, `[steps + 1, ...]`."""
    torch = pytest.importorskip("torch")
    scheduler.set_timesteps(**steps)
    x = torch.from_numpy(start)
    states = [x.numpy()]
    for index, t in enumerate(scheduler.timesteps):
        options = arguments | ({"variance_noise": noise[index]} if "eta" in arguments else {})
        output_t = torch.from_numpy(output[int(t)]).expand(x.shape)
        x = scheduler.step(output_t, t, x, **options).prev_sample
        states.append(x.numpy())
    return np.stack(states), scheduler.timesteps.numpy()


@pytest.mark.parametrize(
    ("settings", "prediction", "clip"),
    [
        ({"sampler": ANCESTRAL, "sampler_steps": 100}, "epsilon", True),
        ({"sampler": ANCESTRAL, "sampler_steps": 100}, "v_prediction", False),
        (
            {"sampler": ANCESTRAL, "sampler_steps": 20, "variance_type": "fixed_large"},
            "epsilon",
            False,
        ),
        (
            {"sampler": ANCESTRAL, "sampler_steps": 7, "timestep_spacing": "linspace"},
            "v_prediction",
            True,
        ),
        ({"sampler": DDIM, "sampler_steps": 20}, "epsilon", False),
        ({"sampler": DDIM, "sampler_steps": 20}, "v_prediction", True),
        ({"sampler": DDIM, "sampler_steps": 10, "eta": 0.7}, "epsilon", True),
        ({"sampler": DPM_SOLVER, "sampler_steps": 20}, "epsilon", False),
        ({"sampler": DPM_SOLVER, "sampler_steps": 6}, "v_prediction", False),
    ],
)
def test_every_step_equals_diffusers(settings, prediction, clip, monkeypatch):
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    # Unless it is at timestep 0, their last step adds noise of variance beta too.
    settings = {"timestep_spacing": "leading"} | settings
    diffusion = DiffusionConfig(num_timesteps=100, beta_end=0.1, prediction_type=prediction)
    steps, rows, key = settings["sampler_steps"], jnp.arange(2), jax.random.key(3)
    output = np.random.default_rng(0).standard_normal((100, *SHAPE)).astype(np.float32) / 2
    sampler = SamplerConfig(clip_sample=clip, **settings)
    times = timesteps(diffusion, sampler)
    snapshots = tuple(int(t) for t in times)
    options = {"shape": SHAPE, "diffusion": diffusion, "sampler": sampler, "snapshots": snapshots}
    ours = sample(from_table, output, key, rows, **options)

    row_keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
    noise = [torch.from_numpy(np.array(_noise(row_keys, t, SHAPE, jnp.float32))) for t in snapshots]
    common = {
        "num_train_timesteps": 100,
        "beta_start": 1e-4,
        "beta_end": 0.1,
        "prediction_type": prediction,
        "timestep_spacing": settings["timestep_spacing"],
    }
    arguments, schedule = {}, {"num_inference_steps": steps}
    if settings["sampler"] == DPM_SOLVER:
        scheduler = diffusers.DPMSolverMultistepScheduler(**common)
        schedule = {"timesteps": list(snapshots)}
    elif settings["sampler"] == DDIM:
        scheduler = diffusers.DDIMScheduler(**common, clip_sample=clip)
        arguments = {"eta": settings.get("eta", 0.0), "use_clipped_model_output": True}
    else:
        variance = settings.get("variance_type", "fixed_small")
        scheduler = diffusers.DDPMScheduler(**common, clip_sample=clip, variance_type=variance)
        noises = iter(noise)
        monkeypatch.setattr(
            "diffusers.schedulers.scheduling_ddpm.randn_tensor", lambda *_, **__: next(noises)
        )
    # Theirs are float32, in which 1 - 0.9999 has three significant digits.
    scheduler.alphas_cumprod = torch.from_numpy(alphas_cumprod(diffusion))
    start = np.array(ours.snapshots[0])
    states, visited = their_states(scheduler, schedule, output, start, noise, **arguments)
    np.testing.assert_array_equal(times, visited)
    got = np.concatenate([ours.snapshots, ours.images[None]])
    np.testing.assert_allclose(got, states, atol=1e-5, rtol=1e-5)


def help_of(setting):
    (field,) = [field for field in dataclasses.fields(SamplerConfig) if field.name == setting]
    return field.metadata["help"]


@pytest.mark.parametrize(("count", "steps"), [(1000, 20), (1000, 30), (100, 7), (50, 50)])
@pytest.mark.parametrize("spacing", ["trailing", "leading", "linspace"])
def test_timesteps_equal_ddim_and_ddpm_and_for_trailing_also_dpm_solver(count, steps, spacing):
    pytest.importorskip("torch")
    diffusers = pytest.importorskip("diffusers")
    diffusion = DiffusionConfig(num_timesteps=count)
    ours, more = (
        timesteps(diffusion, SamplerConfig(sampler_steps=number, timestep_spacing=spacing))
        for number in (steps, min(steps + 1, count))
    )

    def theirs(scheduler):
        instance = scheduler(num_train_timesteps=count, timestep_spacing=spacing)
        instance.set_timesteps(steps)
        return instance.timesteps.numpy()

    np.testing.assert_array_equal(theirs(diffusers.DDIMScheduler), ours)
    np.testing.assert_array_equal(theirs(diffusers.DDPMScheduler), ours)
    if steps < count:
        solver = theirs(diffusers.DPMSolverMultistepScheduler)
        assert np.array_equal(solver, ours) == (spacing == "trailing")
        # Some of 31 timesteps from 0 to 999 are halfway between integers and round differently.
        assert spacing == "trailing" or np.abs(solver - more[:-1]).max() <= (steps == 30)
    assert "its DPM-Solver has the same trailing" in help_of("timestep_spacing")


@pytest.mark.parametrize(
    ("steps", "spacing", "same"),
    [(20, "trailing", True), (30, "trailing", False), (20, "linspace", False)],
)
def test_ddim_steps_to_the_next_timestep_and_diffusers_by_one_stride(steps, spacing, same):
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    diffusion = DiffusionConfig(num_timesteps=100, beta_end=0.1)
    sampler = SamplerConfig(sampler=DDIM, sampler_steps=steps, timestep_spacing=spacing)
    times, alpha_bars = timesteps(diffusion, sampler), alphas_cumprod(diffusion)
    scheduler = diffusers.DDIMScheduler(
        num_train_timesteps=100, timestep_spacing=spacing, clip_sample=False
    )
    scheduler.alphas_cumprod = torch.from_numpy(alpha_bars)
    scheduler.set_timesteps(steps)
    x, epsilon = 0.3, -0.8

    def stepped(alpha_bar, next_alpha_bar):
        return np.sqrt(next_alpha_bar) * (x - np.sqrt(1 - alpha_bar) * epsilon) / np.sqrt(
            alpha_bar
        ) + (np.sqrt(1 - next_alpha_bar) * epsilon)

    coefs = coefficients(diffusion, sampler)
    x0 = coefs.from_x * x + coefs.from_output * epsilon
    ours = coefs.a * x + coefs.b * x0
    theirs = [
        float(scheduler.step(torch.tensor(epsilon), int(t), torch.tensor(x)).prev_sample)
        for t in times
    ]
    to_next = np.append(alpha_bars[times[1:]], 1.0)
    stride = times - 100 // steps
    by_stride = np.where(stride >= 0, alpha_bars[stride], 1.0)
    np.testing.assert_allclose(ours, stepped(alpha_bars[times], to_next))
    np.testing.assert_allclose(theirs, stepped(alpha_bars[times], by_stride), rtol=1e-5)
    assert np.allclose(ours, theirs, rtol=1e-5) == same
    assert "diffusers' DDIM steps from t to t - num_timesteps //" in help_of("sampler")


def test_ddim_noise_from_clipped_x0_equals_use_clipped_model_output():
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    diffusion = DiffusionConfig(num_timesteps=100, beta_end=0.1)
    coefs = coefficients(diffusion, SamplerConfig(sampler=DDIM, sampler_steps=20))
    scheduler = diffusers.DDIMScheduler(num_train_timesteps=100, timestep_spacing="trailing")
    scheduler.alphas_cumprod = torch.from_numpy(alphas_cumprod(diffusion))
    scheduler.set_timesteps(20)
    x, epsilon = 0.3, -0.8  # an x0 far above 1 at the first timestep
    output, t = torch.tensor(epsilon), int(scheduler.timesteps[0])
    clipped, unclipped = (
        float(
            scheduler.step(
                output, t, torch.tensor(x), use_clipped_model_output=use_clipped
            ).prev_sample
        )
        for use_clipped in (True, False)
    )
    x0 = min(coefs.from_x[0] * x + coefs.from_output[0] * epsilon, 1)
    assert x0 == 1
    ours = coefs.a[0] * x + coefs.b[0] * x0
    assert ours == pytest.approx(clipped, rel=1e-5)
    assert abs(ours - unclipped) > 0.01
    assert "use_clipped_model_output=True" in help_of("clip_sample")


def test_last_ancestral_step_adds_no_noise_unlike_diffusers(monkeypatch):
    torch, diffusers = pytest.importorskip("torch"), pytest.importorskip("diffusers")
    diffusion = DiffusionConfig(num_timesteps=100, beta_end=0.1)
    scheduler = diffusers.DDPMScheduler(
        num_train_timesteps=100, timestep_spacing="trailing", variance_type="fixed_large"
    )
    scheduler.alphas_cumprod = torch.from_numpy(alphas_cumprod(diffusion))
    scheduler.set_timesteps(20)
    last = int(scheduler.timesteps[-1])
    ends = []
    for noise in (0.0, 1.0):
        monkeypatch.setattr(
            "diffusers.schedulers.scheduling_ddpm.randn_tensor",
            lambda *_, noise=noise, **__: torch.tensor(noise),
        )
        step = scheduler.step(torch.full((1, 1), 0.1), last, torch.full((1, 1), 0.2))
        ends.append(float(step.prev_sample))
    assert ends[1] - ends[0] == pytest.approx(
        (1 - alphas_cumprod(diffusion)[last]) ** 0.5, rel=1e-4
    )
    sampler = SamplerConfig(sampler=ANCESTRAL, sampler_steps=20, variance_type="fixed_large")
    assert coefficients(diffusion, sampler).s[-1] == 0
