"""`--matmul_precision=bfloat16` and `--compute_dtype=auto` are resolved once, kept by the run."""

import dataclasses
import types

import pytest

from jaxlabs.config import Config, group, setting
from jaxlabs.layers.matmul import PRECISIONS
from jaxlabs.models.model_config import COMPUTE_DTYPES
from jaxlabs.training import precision


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model(Config):
    width: int = setting(3, "width of the model", minimum=1)
    matmul_precision: str = setting("default", "precision of matmuls", choices=PRECISIONS)
    compute_dtype: str = setting("auto", "dtype of activations", choices=COMPUTE_DTYPES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(Config):
    seed: int = setting(0, "seed of the run", minimum=0)
    optimizer: str = setting("adamw", "optimizer")
    model: Model = group(Model)


def requested(name):
    return Run(model=Model(matmul_precision=name))


@pytest.fixture
def seconds(monkeypatch):
    """The timings, instead of a measurement."""
    found = {"bfloat16": 1e-3, "default": 2e-3}
    monkeypatch.setattr(precision, "measure", lambda: dict(found))
    return found


@pytest.mark.parametrize("name", ["default", "highest"])
@pytest.mark.parametrize("stored", [None, "default"])
def test_only_bfloat16_is_timed(name, stored, monkeypatch, capsys):
    monkeypatch.setattr(precision, "measure", lambda: pytest.fail("it measured"))
    assert precision.resolve_precision(requested(name), stored) == (stored or name)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("bfloat16", "chosen"), [(1e-3, "bfloat16"), (3e-3, "default")])
def test_new_run_uses_the_faster_precision_and_prints_one_line(seconds, capsys, bfloat16, chosen):
    seconds["bfloat16"] = bfloat16
    assert precision.resolve_precision(requested("bfloat16"), None) == chosen
    line = capsys.readouterr().err
    assert line == (
        f"bfloat16 matmul: {1e3 * bfloat16:.1f} ms, float32: 2.0 ms;"
        f" using {chosen.replace('default', 'float32')}\n"
    )


def test_resumed_run_keeps_its_precision(seconds, capsys):
    assert precision.resolve_precision(requested("bfloat16"), "bfloat16") == "bfloat16"
    assert capsys.readouterr().err == ""
    seconds["bfloat16"] = 3e-3
    assert precision.resolve_precision(requested("bfloat16"), "bfloat16") == "bfloat16"
    assert "using bfloat16, as before" in capsys.readouterr().err
    assert precision.resolve_precision(requested("bfloat16"), "default") == "default"


def test_resolved_precision_changes_only_its_setting():
    resolved = precision.with_precision(requested("bfloat16"), {"matmul_precision": "default"})
    assert resolved == dataclasses.replace(requested("bfloat16"), model=Model())
    chosen = {"matmul_precision": "bfloat16", "another": "value"}
    assert precision.with_precision(Model(width=5), chosen).flat() == {
        "width": 5,
        "matmul_precision": "bfloat16",
        "compute_dtype": "auto",
    }


def test_measurement_times_both_precisions():
    seconds = precision.measure(32, 8, 16)
    assert list(seconds) == ["bfloat16", "default"]
    assert all(0 < value < 1 for value in seconds.values())


def test_slow_repeats_do_not_affect_the_choice(monkeypatch):
    taken = {"bfloat16": [1] + [9] * precision.REPEATS, "default": [3] * (1 + precision.REPEATS)}
    clock = [0.0]

    def work(x, kernel, gradient, name):
        clock[0] += taken[name].pop()
        return x

    monkeypatch.setattr(precision, "_forward_and_backward", work)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock[0])
    assert precision.measure(4, 4, 4) == {"bfloat16": 1, "default": 3}


def device(platform, capability=None, kind="a device"):
    return types.SimpleNamespace(platform=platform, compute_capability=capability, device_kind=kind)


TPU, H100, T4 = device("tpu"), device("gpu", "9.0", "NVIDIA H100"), device("gpu", "7.5")


@pytest.mark.parametrize(
    ("found", "fast"),
    [
        (TPU, True),
        (H100, True),
        (device("gpu", "8.0"), True),
        (device("gpu", "12.0"), True),
        (T4, False),
        (device("gpu", "gfx90a"), False),
        (device("cpu"), False),
    ],
)
def test_bfloat16_is_fast_on_tpus_and_newer_gpus(found, fast):
    assert precision.has_fast_bfloat16(found) == fast


@pytest.mark.parametrize(
    ("found", "settings", "chosen"),
    [
        (H100, {}, "bfloat16"),
        (TPU, {}, "bfloat16"),
        (T4, {}, "float32"),
        (H100, {"matmul_precision": "highest"}, "float32"),
        (H100, {"optimizer": "lbfgs"}, "float32"),
        (H100, {"compute_dtype": "float32"}, "float32"),
        (device("cpu"), {"compute_dtype": "bfloat16"}, "bfloat16"),
        (device("cpu"), {}, "float32"),
    ],
)
def test_auto_is_bfloat16_where_it_is_fast(monkeypatch, capsys, found, settings, chosen):
    monkeypatch.setattr(precision.jax, "devices", lambda: [found])
    assert precision.resolve_dtype(Run.from_flat(settings), None) == chosen
    line = f"compute_dtype: {chosen} on {found.device_kind}\n"
    is_shown = found.platform != "cpu" and "compute_dtype" not in settings
    assert capsys.readouterr().err == line * is_shown


@pytest.mark.parametrize(
    ("stored", "chosen"),
    [
        ({"compute_dtype": "bfloat16"}, "bfloat16"),
        ({"compute_dtype": "float32"}, "float32"),
        ({}, "float32"),
    ],
)
def test_resumed_run_keeps_its_dtype_on_any_machine(monkeypatch, stored, chosen):
    monkeypatch.setattr(precision.jax, "devices", lambda: pytest.fail("it looked at the device"))
    assert precision.resolve(Run(), stored)["compute_dtype"] == chosen


def test_model_without_the_setting_has_no_dtype_to_resolve():
    assert precision.resolve(Config(), None) == {"matmul_precision": "default"}
