"""`fast` is bfloat16 only where that is faster, decided once and kept."""

import dataclasses

import pytest

from jaxlabs.config import Config, group, setting
from jaxlabs.layers.matmul import PRECISIONS
from jaxlabs.training import precision


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model(Config):
    width: int = setting(3, "of it", minimum=1)
    matmul_precision: str = setting("default", "of dots", choices=PRECISIONS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(Config):
    seed: int = setting(0, "of it", minimum=0)
    model: Model = group(Model)


def asked(name):
    return Run(model=Model(matmul_precision=name))


@pytest.fixture
def seconds(monkeypatch):
    """What the measurement finds, in place of a measurement."""
    found = {"bfloat16": 1e-3, "default": 2e-3}
    monkeypatch.setattr(precision, "measure", lambda: dict(found))
    return found


@pytest.mark.parametrize("name", ["default", "highest"])
@pytest.mark.parametrize("stored", [None, "default"])
def test_only_fast_is_measured(name, stored, monkeypatch, capsys):
    monkeypatch.setattr(precision, "measure", lambda: pytest.fail("it measured"))
    assert precision.resolve_precision(asked(name), stored) == (stored or name)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("bfloat16", "chosen"), [(1e-3, "bfloat16"), (3e-3, "default")])
def test_new_run_takes_the_faster_dots_and_says_so_in_one_line(seconds, capsys, fast, chosen):
    seconds["bfloat16"] = fast
    assert precision.resolve_precision(asked("bfloat16"), None) == chosen
    line = capsys.readouterr().err
    assert line == (
        "--matmul_precision=bfloat16: a large dot takes"
        f" fast {1e3 * fast:.1f} ms, default 2.0 ms; {chosen} is used\n"
    )


def test_resumed_run_keeps_its_dots_and_says_so_where_others_would_be_faster(seconds, capsys):
    assert precision.resolve_precision(asked("bfloat16"), "bfloat16") == "bfloat16"
    assert capsys.readouterr().err == ""
    seconds["bfloat16"] = 3e-3
    assert precision.resolve_precision(asked("bfloat16"), "bfloat16") == "bfloat16"
    assert "the run goes on with fast" in capsys.readouterr().err
    assert precision.resolve_precision(asked("bfloat16"), "default") == "default"


def test_choice_reaches_the_group_that_has_the_setting_and_nothing_else():
    settled = precision.with_precision(asked("bfloat16"), "default")
    assert settled == dataclasses.replace(asked("bfloat16"), model=Model())
    assert precision.with_precision(Model(width=5), "bfloat16").flat() == {
        "width": 5,
        "matmul_precision": "bfloat16",
    }


def test_measurement_times_both_forms():
    seconds = precision.measure(32, 8, 16)
    assert list(seconds) == ["bfloat16", "default"]
    assert all(0 < value < 1 for value in seconds.values())


def test_disturbed_rounds_do_not_decide(monkeypatch):
    taken = {"bfloat16": [1] + [9] * precision.ROUNDS, "default": [3] * (1 + precision.ROUNDS)}
    clock = [0.0]

    def work(x, kernel, gradient, name):
        clock[0] += taken[name].pop()
        return x

    monkeypatch.setattr(precision, "_forth_and_back", work)
    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock[0])
    assert precision.measure(4, 4, 4) == {"bfloat16": 1, "default": 3}
