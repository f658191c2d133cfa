"""`--matmul_precision=bfloat16` is resolved once, by timing, and kept by the run."""

import dataclasses

import pytest

from jaxlabs.config import Config, group, setting
from jaxlabs.layers.matmul import PRECISIONS
from jaxlabs.training import precision


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model(Config):
    width: int = setting(3, "width of the model", minimum=1)
    matmul_precision: str = setting("default", "precision of matmuls", choices=PRECISIONS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(Config):
    seed: int = setting(0, "seed of the run", minimum=0)
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
    resolved = precision.with_precision(requested("bfloat16"), "default")
    assert resolved == dataclasses.replace(requested("bfloat16"), model=Model())
    assert precision.with_precision(Model(width=5), "bfloat16").flat() == {
        "width": 5,
        "matmul_precision": "bfloat16",
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
