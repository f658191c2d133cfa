"""Help, presets and flags of a command."""

import dataclasses
import os
import subprocess
import sys

import pytest

import jaxlabs
from jaxlabs import config
from jaxlabs.labs.gpt.lab import LAB, PRESETS
from jaxlabs.runner import cli
from jaxlabs.runner.description import describe, not_comparable_reason
from jaxlabs.runner.help_text import sections
from jaxlabs.training.run_config import RunConfig


def help_without_marks(field):
    return field.metadata["help"].replace("`", "").replace("--", "")


def test_help_lists_every_setting_with_its_value_by_preset(capsys):
    assert cli.run(LAB, ["--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    for name, field in config.settings(LAB.config_class):
        values = [
            LAB.config_class.from_flat(preset).flat()[name] for preset in LAB.presets.values()
        ]
        words = [{None: "none"}.get(value, str(value)) for value in values]
        words = [word.lower() if word in ("True", "False") else word for word in words]
        shown = words[0] if len(set(words)) == 1 else " | ".join(words)
        index = lines.index(f"  --{name}={shown}")
        text = lines[index + 1].strip()
        assert text.replace("--", "").startswith(help_without_marks(field))
    assert "  --num_heads=" in out
    assert "number of attention heads; divides --embed_dim" in out
    for name in ("preset", "mode", "overwrite", "replay_step", "checkpoint", "help"):
        assert any(line.startswith(f"  --{name}=") for line in lines)
    assert LAB.description.splitlines()[0] in out


def test_help_has_a_heading_for_every_section_and_no_alias():
    lines = cli.help_text(LAB).splitlines()
    found = sections(LAB.config_class)
    assert list(found)[:3] == ["run", "data", "model"]
    for section, fields in found.items():
        heading = lines.index(section)
        for number, (name, field) in enumerate(fields):
            assert lines[heading + 1 + 2 * number].startswith(f"  --{name}=")
            for alias in (*field.metadata["aliases"], "lr_range_test"):
                assert not any(line.startswith(f"  --{alias}=") for line in lines)


def test_command_configures_malloc_at_its_start(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(cli.malloc, "configure_malloc", lambda: seen.append(True))
    monkeypatch.setattr(cli.signals, "guard", lambda: None)  # the process is pytest's
    monkeypatch.setattr(sys, "argv", ["gpt", "--help"])
    with pytest.raises(SystemExit, match="0"):
        cli.main(LAB)
    assert seen == [True]
    assert "usage" in capsys.readouterr().out


def test_short_help_flag_wins_over_everything_but_invalid_flags(capsys, refused):
    assert cli.run(LAB, ["-h", "--steps=3"]) == 0
    assert "usage: jaxlabs gpt" in capsys.readouterr().out
    assert "unknown flag" in refused("--help", "--stepz=3")


def test_flag_wins_over_preset_and_preset_over_default():
    invocation = cli.parse(
        LAB, ["--preset=reference", "--steps=7", "--nobias", "--grad_clip_norm=2"]
    )
    assert invocation.config().flat() == LAB.config_class().flat() | PRESETS["reference"] | {
        "steps": 7,
        "bias": False,
        "grad_clip_norm": 2.0,
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_can_be_tried_for_a_few_steps(preset):
    invocation = cli.parse(LAB, [f"--preset={preset}", "--steps=1"])
    assert invocation.config().steps == 1


def test_first_preset_is_the_default_and_in_the_folder_name():
    first = next(iter(PRESETS))
    invocation = cli.parse(LAB, [])
    assert invocation.config().flat() == LAB.config_class.from_flat(PRESETS[first]).flat()
    assert str(invocation.folder().path) == f"runs/gpt-{first}"
    other = cli.parse(LAB, ["--preset=reference", "--no_causal_mask"])
    assert str(other.folder().path) == "runs/gpt-reference-unmasked"
    given = cli.parse(LAB, ["--workdir=mine", "--no_causal_mask"])
    assert str(given.folder().path) == "mine"


def test_optional_setting_can_be_disabled_with_none():
    presets = {"quick": {"grad_clip_norm": 1.0, "attention_window": 8}}
    lab = dataclasses.replace(LAB, presets=presets)
    invocation = cli.parse(lab, ["--grad_clip_norm=none", "--attention_window=none"])
    assert invocation.config().optimization.grad_clip_norm is None
    assert invocation.config().model.attention_window is None
    assert cli.parse(lab, []).config().optimization.grad_clip_norm == 1.0


def test_recorded_command_can_be_run_again(tiny_flags, tmp_path):
    flags = [*tiny_flags, "--steps=0", "--prompt=the king", f"--workdir={tmp_path / 'my run'}"]
    invocation = cli.parse(LAB, flags)
    config = invocation.config()
    recorded = describe(invocation, config, LAB.load_data(config), None)["command"]
    assert recorded.startswith("jaxlabs gpt --dataset=")
    assert "'--prompt=the king'" in recorded
    assert f"'--workdir={tmp_path / 'my run'}'" in recorded


@pytest.mark.parametrize("coupled", ["no", "loss", "batch_norm"])
def test_evaluation_batch_matters_to_comparisons_only_where_it_couples_examples(
    coupled, tiny_flags
):
    flags = ["--eval_batch_size=32", "--seed=3"]
    invocation = cli.parse(LAB, ["--preset=reference", *flags])
    config = cli.parse(LAB, [*tiny_flags, *flags]).config()
    data = dataclasses.replace(LAB.load_data(config), comparable=True)
    task = LAB.build_task(config, data.data_spec)
    init = task.init if coupled != "batch_norm" else lambda key: {"params": {}, "batch_stats": {}}
    task = dataclasses.replace(task, batch_coupled=coupled == "loss", init=init)
    reason = not_comparable_reason(invocation, invocation.config(), task, data)
    changed = "other settings than the preset's: eval_batch_size"
    assert reason == ("" if coupled == "no" else changed)


@pytest.mark.parametrize("name", ["mode", "vary", "help"])
def test_setting_with_the_name_of_a_flag_of_every_lab_is_refused(name, capsys):
    settings = [(name, int, config.setting(0, "a number"))]
    config_class = dataclasses.make_dataclass(
        "Config", settings, bases=(RunConfig,), frozen=True, kw_only=True
    )
    assert cli.run(dataclasses.replace(LAB, config_class=config_class), []) == 2
    assert capsys.readouterr().err == (
        f"gpt: --{name}: the lab has a setting with the name of this flag of every lab\n"
    )


def test_closed_pipe_is_no_error(tiny_flags):
    """`... --help | head -1` ends quietly."""
    result = subprocess.run(
        f"set -o pipefail; {sys.executable} -m experiments.gpt --help | head -1",
        shell=True,
        executable="/bin/bash",
        cwd=os.path.dirname(os.path.dirname(jaxlabs.__file__)),
        capture_output=True,
        text=True,
    )
    assert result.stderr == ""
    assert result.stdout == LAB.description.splitlines()[0] + "\n"
