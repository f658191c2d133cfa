"""Settings: validation messages, flags, aliases, headings and JSON."""

import dataclasses
import json

import pytest
from absl import flags

from jaxlabs import config as config_lib
from jaxlabs.config import ArgumentError, Config, UserError, setting
from jaxlabs.runner.flags import define_flags, deprecations, given_flags
from jaxlabs.runner.help_text import sections


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inner(Config):
    """A nested group."""

    width: int = setting(8, "features", minimum=1)
    rate: float = setting(0.5, "share", minimum=0, maximum=1)
    window: int | None = setting(None, "keys; none: all", minimum=1)

    def check(self):
        if self.window is not None and self.window > self.width:
            raise ArgumentError("window", f"{self.window} is not accepted; at most width")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Outer(Config):
    """The settings of an experiment."""

    steps: int = setting(100, "steps", minimum=0)
    scale: float = setting(1.0, "factor", above=0)
    shift: float = setting(0.0, "nats")
    kind: str = setting("cosine", "shape", choices=("constant", "cosine", "linear"))
    inner: Inner = dataclasses.field(default_factory=Inner)
    loud: bool = setting(False, "whether to print", kind="runtime")
    folder: str | None = setting(None, "where", kind="runtime")


def parsed(*arguments) -> dict:
    """Returns the settings given on a command line."""
    values = flags.FlagValues()
    define_flags(Outer, values)
    values(["program", *arguments])
    return given_flags(Outer, values)


def flag_error(argument) -> str:
    """Returns the message of our parser, which absl wraps."""
    with pytest.raises(flags.IllegalFlagValueError) as caught:
        parsed(argument)
    assert isinstance(caught.value.__context__, UserError)
    return str(caught.value.__context__)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": -1}, "steps: -1 is not accepted; an integer of at least 0"),
        ({"width": 0}, "width: 0 is not accepted; an integer of at least 1"),
        ({"window": 0}, "window: 0 is not accepted; an integer of at least 1 or none"),
        ({"rate": 1.5}, "rate: 1.5 is not accepted; a number of at least 0 and of at most 1"),
        ({"rate": -1.0}, "rate: -1.0 is not accepted; a number of at least 0 and of at most 1"),
        ({"scale": 0.0}, "scale: 0.0 is not accepted; a number above 0"),
        ({"scale": float("nan")}, "scale: nan is not accepted; a number above 0"),
        ({"scale": float("inf")}, "scale: inf is not accepted; a number above 0"),
        ({"shift": -float("inf")}, "shift: -inf is not accepted; a number that is finite"),
        (
            {"kind": "cosin"},
            "kind: 'cosin' is not accepted; one of constant, cosine, linear;"
            " did you mean 'cosine'?",
        ),
        ({"kind": "zz"}, "kind: 'zz' is not accepted; one of constant, cosine, linear"),
        ({"widht": 3}, "widht: unknown setting; did you mean 'width'?"),
        ({"qqq": 3}, "qqq: unknown setting"),
        ({"window": 9}, "window: 9 is not accepted; at most width"),
    ],
)
def test_invalid_values_give_a_message_with_the_accepted_ones(values, message):
    with pytest.raises(UserError) as caught:
        Outer.from_flat(values)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 10.5}, "steps: 10.5 is not accepted; an integer"),
        ({"steps": True}, "steps: True is not accepted; an integer"),
        ({"scale": "a"}, "scale: 'a' is not accepted; a number"),
        ({"folder": 3}, "folder: 3 is not accepted; a string or none"),
        ({"loud": 1}, "loud: 1 is not accepted; true or false"),
        ({"inner": 3}, "inner: 3 is not accepted; Inner"),
    ],
)
def test_config_built_in_code_checks_the_types_of_its_values(values, message):
    with pytest.raises(ValueError, match="is not accepted") as caught:
        Outer(**values)
    assert isinstance(caught.value, ArgumentError)
    assert str(caught.value) == message
    assert caught.value.argument == next(iter(values))


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 0},
        {"width": 1, "window": 1},
        {"window": None},
        {"rate": 0.0},
        {"rate": 1},
        {"shift": -3.5},
        {"scale": 1e-9},
        {"kind": "linear"},
    ],
)
def test_values_on_the_bounds_are_accepted(values):
    flat = Outer.from_flat(values).flat()
    assert {name: flat[name] for name in values} == values


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--steps=ten", "steps: 'ten' is not accepted; an integer"),
        ("--steps=1.5", "steps: '1.5' is not accepted; an integer"),
        ("--steps=none", "steps: 'none' is not accepted; an integer"),
        ("--window=x", "window: 'x' is not accepted; an integer or none"),
        ("--scale=big", "scale: 'big' is not accepted; a number"),
        ("--loud=maybe", "loud: 'maybe' is not accepted; true or false"),
    ],
)
def test_unparsable_flags_give_a_message_with_the_accepted_values(argument, message):
    assert flag_error(argument) == message


def test_flag_out_of_range_gives_the_same_message():
    with pytest.raises(UserError, match=r"^width: 0 is not accepted; an integer of at least 1$"):
        Outer.from_flat(parsed("--width=0"))


def test_every_field_has_one_flag_nested_groups_included():
    values = flags.FlagValues()
    define_flags(Outer, values)
    names = [name for name, _ in config_lib.settings(Outer)]
    assert names == ["steps", "scale", "shift", "kind", "width", "rate", "window", "loud", "folder"]
    for name, field in config_lib.settings(Outer):
        assert values[name].help == field.metadata["help"]
        assert values[name].value is None


def test_flags_have_the_type_of_their_field():
    given = parsed("--steps=3", "--scale=2", "--kind=linear", "--window=4", "--loud", "--folder=a")
    assert given == {
        "steps": 3,
        "scale": 2.0,
        "kind": "linear",
        "window": 4,
        "loud": True,
        "folder": "a",
    }
    assert isinstance(given["scale"], float)
    assert parsed("--noloud") == parsed("--loud=false") == {"loud": False}


def test_absent_flags_have_no_value():
    assert parsed() == {}


def test_none_is_a_value_of_optional_settings():
    assert parsed("--window=none", "--folder=none") == {"window": None, "folder": None}


def test_flag_overrides_preset_and_preset_overrides_default():
    preset = {"width": 16, "window": 4, "steps": 7}
    config = Outer.from_flat(preset | parsed("--width=32", "--window=none"))
    assert (config.inner.width, config.inner.window, config.steps) == (32, None, 7)
    assert config.scale == 1.0


def test_json_round_trip_gives_the_equal_config():
    config = Outer.from_flat({"width": 16, "window": 3, "rate": 0.1, "folder": "a", "loud": True})
    assert Outer.from_flat(json.loads(json.dumps(config.flat()))) == config
    assert config.flat().keys() == {name for name, _ in config_lib.settings(Outer)}


def test_identity_excludes_runtime_settings():
    identity = Outer.from_flat({"folder": "a", "loud": True}).identity()
    assert identity == Outer().identity()
    assert identity.keys() == {"steps", "scale", "shift", "kind", "width", "rate", "window"}


def test_configs_are_frozen_and_hashable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Outer().steps = 3
    assert hash(Outer()) == hash(Outer.from_flat({}))


@pytest.mark.parametrize(
    ("name", "hint"),
    [("presset", "; did you mean 'preset'?"), ("preset", "; did you mean 'preset'?"), ("xyz", "")],
)
def test_nearest_name_is_suggested_only_for_a_near_miss(name, hint):
    assert config_lib.nearest(name, ["steps", "preset", "mode"]) == hint


def test_differences_include_only_identity_settings():
    stored = Outer(steps=7, loud=True).flat()
    del stored["shift"]  # newer than the run, which has its default
    found = config_lib.differences(Outer, stored, Outer(shift=1.0).flat())
    assert found == {"steps": (7, 100), "shift": (0.0, 1.0)}
    assert config_lib.differences(Outer, stored | {"forgotten": 1}, {"steps": 7}) == {}
    invalid_together = {"window": 9}
    assert config_lib.differences(Outer, {}, invalid_together) == {"window": (None, 9)}


def test_path_settings_exclude_data_set_names():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Reader(Config):
        dataset: str = setting("mnist", "data", path_unless=("mnist", "markov", "bpe:*"))
        home: str | None = setting(None, "folder", path_unless=())
        kind: str = setting("gru", "cell")

    assert config_lib.path_settings(Reader, Reader().flat()) == {}
    assert config_lib.path_settings(Reader, Reader(dataset="markov", kind="a/b").flat()) == {}
    assert config_lib.path_settings(Reader, Reader(dataset="bpe:4096").flat()) == {}
    given = {"dataset": "a.txt", "home": "."}
    assert config_lib.path_settings(Reader, Reader(**given).flat()) == given


@dataclasses.dataclass(frozen=True, kw_only=True)
class Renamed(Config):
    """Settings with earlier names and values."""

    embed_dim: int = setting(8, "features", minimum=1, aliases=("width", "size"))
    precision: str = setting(
        "highest",
        "precision of matmuls",
        choices=("highest", "bfloat16"),
        value_aliases={"fast": "bfloat16"},
    )


def renamed_flags(*arguments) -> dict:
    values = flags.FlagValues()
    define_flags(Renamed, values)
    values(["program", *arguments])
    return given_flags(Renamed, values)


@pytest.mark.parametrize("name", ["embed_dim", "width", "size"])
def test_setting_is_accepted_by_its_earlier_names(name):
    assert Renamed.from_flat({name: 4}).embed_dim == 4
    assert Renamed.from_flat(renamed_flags(f"--{name}=4")).embed_dim == 4


def test_earlier_value_is_replaced_by_the_present_one():
    assert Renamed.from_flat(renamed_flags("--precision=fast")).precision == "bfloat16"
    assert config_lib.canonical(Renamed, {"precision": "fast", "width": 3, "other": 1}) == {
        "precision": "bfloat16",
        "embed_dim": 3,
        "other": 1,
    }


def test_setting_under_two_names_is_refused():
    with pytest.raises(UserError, match=r"^size: the same setting as `embed_dim`; give one"):
        Renamed.from_flat(renamed_flags("--width=4", "--size=4"))


def test_deprecated_name_or_value_is_reported_with_the_present_one():
    given = renamed_flags("--width=4", "--precision=fast")
    assert deprecations(Renamed, given) == [
        "--width is deprecated; use --embed_dim",
        "--precision=fast is deprecated; use --precision=bfloat16",
    ]
    assert deprecations(Renamed, {"embed_dim": 4, "precision": "highest"}) == []
    assert deprecations(Renamed, {"embed_dim": float("nan")}) == []


def test_invalid_value_is_refused_under_the_present_name():
    with pytest.raises(UserError, match=r"^embed_dim: 0 is not accepted; an integer of"):
        Renamed.from_flat(renamed_flags("--width=0"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base(Config):
    seed: int = setting(0, "seed")
    dataset: str = setting("a", "data set", section="data")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampler(Config):
    inner: Inner = config_lib.group(Inner)
    top_k: int = setting(0, "tokens", section="sampling")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Derived(Base):
    dataset: str = setting("b", "another data set")
    maps: Sampler = config_lib.group(Sampler, section="report")
    model: Renamed = config_lib.group(Renamed)


def test_sections_are_those_of_field_base_class_group_or_field_name():
    found = sections(Derived)
    assert {section: [name for name, _ in fields] for section, fields in found.items()} == {
        "run": ["seed"],
        "data": ["dataset"],
        "model": ["embed_dim", "precision"],
        "sampling": ["top_k"],
        "report": ["width", "rate", "window"],
    }
    assert list(found) == ["run", "data", "model", "sampling", "report"]
    assert found["data"][0][1].default == "b"


def test_near_miss_of_an_earlier_name_suggests_the_present_one():
    names = config_lib.spellings(Renamed)
    assert config_lib.nearest("widht", names, names) == "; did you mean 'embed_dim'?"
