"""Tests of jaxlabs/report/style.py: independent of the user's settings, fallback fonts."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.font_manager import fontManager

from jaxlabs import load_matplotlib
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.report import fonts, style
from jaxlabs.report.page import write_report
from jaxlabs.run_folder import RunFolder

STORED = Path(__file__).parents[1] / "fixtures" / "run_folders" / "gpt_dropout_ema"
HOSTILE = {
    "text.usetex": True,
    "font.size": 31,
    "font.family": ["cursive"],
    "axes.facecolor": "red",
    "axes.formatter.limits": (0, 0),
    "axes.prop_cycle": matplotlib.cycler(color=["yellow"]),
    "axes.titlesize": 40,
    "axes.xmargin": 0.4,
    "figure.constrained_layout.h_pad": 1.0,
    "image.cmap": "jet",
    "image.interpolation": "bilinear",
    "legend.fontsize": 3,
    "lines.antialiased": False,
    "lines.marker": "o",
    "path.sketch": (1, 100, 2),
    "savefig.bbox": "tight",
    "savefig.transparent": True,
    "xtick.bottom": False,
}


@pytest.fixture
def run(tmp_path):
    folder = RunFolder(shutil.copytree(STORED, tmp_path / "run"))
    folder.create()
    return folder


def render_report(folder):
    for path in folder.figures.glob("*.png"):
        path.unlink()
    write_report(folder, LAB)
    return {path.name: path.read_bytes() for path in folder.figures.glob("*.png")}


def test_user_rcparams_do_not_change_figures(run):
    expected = render_report(run)
    with matplotlib.rc_context(HOSTILE):
        found = render_report(run)
    assert expected.keys() == found.keys() >= {"loss.png", "attention_grid.png"}
    assert [name for name in expected if expected[name] != found[name]] == []


# Configuration that matplotlib reads at import

DAMAGED = b"no colon\nlines.linewidth: seven\nlines.markersize: 9\ntext.usetex: True\n\xff\n"
# A machine without a system font cache.
FONTCONFIG = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>/usr/share/fonts</dir><cachedir prefix="xdg">fontconfig</cachedir></fontconfig>
"""


def run_python(*arguments, **variables):
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=Path(load_matplotlib.__file__).parents[1],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# Whether or not a command needs figures, it imports matplotlib without an error.
COMMAND = """
import sys
from jaxlabs import load_matplotlib
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.runner import cli
load_matplotlib.load()
sys.exit(cli.run(LAB, ["--help"]))
"""


def test_invalid_matplotlib_configuration_stops_no_command(tmp_path):
    (tmp_path / "matplotlibrc").write_bytes(DAMAGED)
    (tmp_path / "fonts.conf").write_text(FONTCONFIG)
    done = run_python(
        "-c",
        COMMAND,
        MPLBACKEND="not_installed",  # refused at the import, unlike module://not_installed
        MATPLOTLIBRC=str(tmp_path / "matplotlibrc"),
        FONTCONFIG_FILE=str(tmp_path / "fonts.conf"),
        HOME=os.devnull,
        XDG_CACHE_HOME=os.devnull,
        XDG_CONFIG_HOME=os.devnull,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    assert "--learning_rate" in done.stdout


def test_notebook_keeps_its_backend_and_settings(tmp_path):
    (tmp_path / "matplotlibrc").write_text("lines.linewidth: 7")
    script = "import jaxlabs.report, matplotlib\nprint(matplotlib.rcParams['lines.linewidth'])"
    script += "\nprint(matplotlib.get_backend())"
    done = run_python("-c", script, MPLBACKEND="svg", MATPLOTLIBRC=str(tmp_path))
    assert (done.stdout, done.stderr) == ("7.0\nsvg\n", "")


# Characters of other scripts


@pytest.fixture
def only_bundled_fonts(monkeypatch):
    """A machine without installed fonts."""
    folder = matplotlib.get_data_path()
    bundled = [entry for entry in fontManager.ttflist if entry.fname.startswith(folder)]
    monkeypatch.setattr(fontManager, "ttflist", bundled)
    monkeypatch.setattr(fonts, "_add_new_fonts", lambda: None)


def labeled(*labels):
    figure = style.new_figure(1.5)
    axes = figure.subplots()
    axes.set_xticks(range(len(labels)), labels)
    return figure


def test_missing_glyphs_are_reported(only_bundled_fonts):
    with style.mpl_style():
        assert style.render(labeled("ab", "你好", "日a")).missing == set("你好日")
        assert style.render(labeled("ab", "привет", "ω")).missing == set()


def test_fallback_font_is_used_for_missing_glyphs(only_bundled_fonts):
    ours, stix = (
        {chr(point) for entry in fontManager.ttflist if entry.name == family
         for point in fonts._code_points(entry.fname)}
        for family in ("DejaVu Sans", "STIXGeneral")
    )  # fmt: skip
    letter = min(stix - ours)
    assert fonts.families_with({letter}) == ["STIXGeneral"]
    with style.mpl_style():
        figure = labeled(letter)
        rendered = style.render(figure)
    assert rendered.missing == set()
    (label,) = figure.axes[0].get_xticklabels()
    assert label.get_fontfamily() == ["DejaVu Sans", "STIXGeneral"]


def test_fallback_fonts_do_not_change_other_figures(only_bundled_fonts, monkeypatch):
    with style.mpl_style():
        expected = style.png(labeled("ab"))
        monkeypatch.setattr(fonts, "families_with", lambda characters: [])
        assert style.png(labeled("ab")) == expected


def test_caption_and_warning_list_missing_characters(run, only_bundled_fonts, capsys):
    with np.load(run.arrays("attention_maps")) as arrays:
        arrays = dict(arrays)
    arrays["labels"] = np.array(list("天地玄黃宇宙洪荒日月盈昃辰宿列張"))
    run.write_arrays("attention_maps", **arrays)
    page = write_report(run, LAB).read_text()
    sentence = "No installed font has the characters 列 地 天 宇 宙 宿 張 日 昃 月 and 6 more"
    assert sentence in page
    assert capsys.readouterr().err == (
        "figures: no installed font has the characters 列 地 天 宇 宙 宿 張 日 昃 月 and 6 more;"
        " install one that does, such as Noto Sans, and rerun the command\n"
    )
