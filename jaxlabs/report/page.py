"""The report of a run: one self-contained HTML page, made from the run folder."""

import pathlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from jaxlabs.published import Published, PublishedCurve
from jaxlabs.report import html, images, problem_tables, results, sections, style
from jaxlabs.report.damaged_files import DamagedFiles
from jaxlabs.report.figure import ReportFigure
from jaxlabs.report.figures import Plot, build_figures, comparison
from jaxlabs.run_folder import RunFolder

MAX_LISTED = 10
"""Missing characters that a message lists."""


class Experiment(Protocol):
    """What the report of a run needs of its lab, see `jaxlabs.runner.lab.Experiment`."""

    plots: Mapping[str, Plot]
    published: Sequence[Published | PublishedCurve]


def write_report(folder: RunFolder, lab: Experiment) -> pathlib.Path:
    """Builds the figures of a run, writes them to figures/ and the page to report.html.

    Missing files (summary, samples, arrays) are skipped, so a running or interrupted run has a
    report as well. Damaged files are skipped too; the page and a warning list them. Returns the
    path of the page.

    Raises:
      UserError: the folder holds no run, or cannot be written.
    """
    config, summary, damaged = folder.read_config(), {}, DamagedFiles()
    if (folder.path / "summary.json").exists():
        with damaged.skip_if_damaged("summary.json"):
            summary = folder.read_summary()
    rows, figures = folder.read_metrics(), []
    with style.mpl_style():
        for item in build_figures(folder, damaged, lab.plots, lab.published):
            with damaged.skip_if_damaged(f"figures/{item.name}.png"):
                figures.append((item, style.render(item.figure)))
    for item, rendered in figures:
        folder.write_bytes(folder.figures / f"{item.name}.png", rendered.png)
    _warn_missing_glyphs(frozenset().union(*(rendered.missing for _, rendered in figures)))
    shown = {item.name: _figure_html(item, rendered) for item, rendered in figures}
    loss = shown.pop("loss", "")
    sample_figures = [shown.pop(name, "") for name in ("final_samples", "samples_during_training")]

    def part(file: str, section: Callable[..., str], *arguments: Any) -> str:
        with damaged.skip_if_damaged(file):
            return section(*arguments)
        return ""

    recorded, unit = "config.json or summary.json", config.get("loss_unit", "nats")
    body = [
        part(recorded, sections.header, config, summary, rows),
        part(
            "summary.json",
            sections.published_comparison,
            comparison(folder, lab.published),
            summary.get("metrics", {}),
        ),
        html.section("loss", "Loss curves", loss),
        part("summary.json", results.section, summary),
        part("summary.json", problem_tables.problems, summary),
        part("summary.json", sections.groups, summary),
        # The text of the worked problems is the table above.
        "" if "problems" in summary else sections.samples(folder, damaged, *sample_figures),
        part("summary.json", sections.final_metrics, summary, rows, unit),
        html.section("plots", "Figures", *shown.values()),
        part("config.json", sections.settings, config),
        part(recorded, sections.environment, config, summary),
        part(recorded, sections.reproduce, config, summary),
    ]
    body.append(sections.damaged(damaged.reasons))
    page = html.document(sections.title(config), "\n".join(filter(None, body)))
    folder.write_text(folder.report, page)
    return folder.report


def write_samples(folder: RunFolder, sampled: np.ndarray) -> pathlib.Path:
    """Writes the plot figures/samples.png of `--mode=sample`; returns its path.

    The samples are `[count, height, width(, channels)]` in [0, 1].
    """
    with style.mpl_style():
        png = style.png(images.samples(sampled).figure)
    path = folder.figures / "samples.png"
    folder.write_bytes(path, png)
    return path


def _figure_html(item: ReportFigure, rendered: style.Rendered) -> str:
    heading = "" if item.name == "loss" else f"<h3>{html.text(item.title)}</h3>"
    caption = item.caption
    if rendered.missing:
        caption += f" No installed font has {_list(rendered.missing)}; placeholders are shown."
    return heading + html.image(rendered.png, alt=item.alt, caption=caption)


def _warn_missing_glyphs(characters: frozenset[str]) -> None:
    if characters:
        print(
            f"figures: no installed font has {_list(characters)}; install one that does, such as"
            " Noto Sans, and rerun the command",
            file=sys.stderr,
        )


def _list(characters: frozenset[str]) -> str:
    """Returns the first few characters and the number of the rest."""
    first, more = sorted(characters)[:MAX_LISTED], len(characters) - MAX_LISTED
    listed = "the characters " if len(characters) > 1 else "the character "
    return listed + " ".join(first) + (f" and {more} more" if more > 0 else "")
