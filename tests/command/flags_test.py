"""Help, presets and flags of a command."""

import os
import subprocess
import sys

import pytest

from experiments.gpt import LAB, PRESETS
from jaxlabs import command, config
from jaxlabs.summary import describe


def test_help_names_every_setting_with_its_value_in_each_preset(capsys):
    assert command.run(LAB, ["--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    for name, field in config.settings(LAB.config_class):
        values = [
            LAB.config_class.from_flat(preset).flat()[name] for preset in LAB.presets.values()
        ]
        shown = {None: "none", True: "true", False: "false"}
        words = [
            shown[one] if one is None or one is True or one is False else str(one) for one in values
        ]
        told = words[0] if len(set(words)) == 1 else " | ".join(words)
        place = lines.index(f"  --{name}={told}")
        assert lines[place + 1].strip().startswith(field.metadata["help"])
    for name in ("preset", "mode", "overwrite", "lr_range_test", "replay_step", "checkpoint"):
        assert any(line.startswith(f"  --{name}=") for line in lines)
    assert LAB.description.splitlines()[0] in out


def test_a_command_keeps_freed_memory_from_its_start(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(command.memory, "configure_malloc", lambda: seen.append(True))
    monkeypatch.setattr(command.signals, "guard", lambda: None)  # the process is pytest's
    monkeypatch.setattr(sys, "argv", ["gpt", "--help"])
    with pytest.raises(SystemExit, match="0"):
        command.main(LAB)
    assert seen == [True]
    assert "usage" in capsys.readouterr().out


def test_short_help_flag_wins_over_everything_but_bad_flags(capsys, refused):
    assert command.run(LAB, ["-h", "--steps=3"]) == 0
    assert "usage: python -m experiments.gpt" in capsys.readouterr().out
    assert "no such flag" in refused("--help", "--stepz=3")


def test_flag_wins_over_preset_and_preset_over_default():
    request = command.parse(
        LAB, ["--preset=reference", "--steps=7", "--nobias", "--grad_clip_norm=2"]
    )
    assert request.config().flat() == LAB.config_class().flat() | PRESETS["reference"] | {
        "steps": 7,
        "bias": False,
        "grad_clip_norm": 2.0,
    }


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_can_be_tried_for_a_few_steps(preset):
    request = command.parse(LAB, [f"--preset={preset}", "--steps=1"])
    assert request.config().steps == 1


def test_first_preset_is_the_default_and_names_the_folder():
    first = next(iter(PRESETS))
    request = command.parse(LAB, [])
    assert request.config().flat() == LAB.config_class.from_flat(PRESETS[first]).flat()
    assert str(request.folder().path) == f"runs/gpt-{first}"
    other = command.parse(LAB, ["--preset=reference", "--no_causal_mask"])
    assert str(other.folder().path) == "runs/gpt-reference-unmasked"
    given = command.parse(LAB, ["--workdir=mine", "--no_causal_mask"])
    assert str(given.folder().path) == "mine"


def test_optional_setting_can_be_switched_off_by_none():
    lab = command.Lab(
        **{field: getattr(LAB, field) for field in LAB.__dataclass_fields__}
        | {"presets": {"quick": {"grad_clip_norm": 1.0, "attention_window": 8}}}
    )
    request = command.parse(lab, ["--grad_clip_norm=none", "--attention_window=none"])
    assert request.config().optimization.grad_clip_norm is None
    assert request.config().model.attention_window is None
    assert command.parse(lab, []).config().optimization.grad_clip_norm == 1.0


def test_command_that_is_recorded_can_be_given_again(tiny_flags, tmp_path):
    flags = [*tiny_flags, "--steps=0", "--prompt=the king", f"--workdir={tmp_path / 'my run'}"]
    request = command.parse(LAB, flags)
    config = request.config()
    recorded = describe(request, config, LAB.load_data(config))["command"]
    assert recorded.startswith("python -m experiments.gpt --dataset=")
    assert "'--prompt=the king'" in recorded
    assert f"'--workdir={tmp_path / 'my run'}'" in recorded


def test_reader_that_hangs_up_is_no_error(tiny_flags):
    """`... --help | head -1` ends quietly."""
    result = subprocess.run(
        f"set -o pipefail; {sys.executable} -m experiments.gpt --help | head -1",
        shell=True,
        executable="/bin/bash",
        cwd=os.path.dirname(os.path.dirname(command.__file__)),
        capture_output=True,
        text=True,
    )
    assert result.stderr == ""
    assert result.stdout.startswith("A character GPT")
