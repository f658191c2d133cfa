"""One self-contained HTML page for a run, from its folder and the published figures alone."""

import pathlib
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxlabs.report import html, images, problem_tables, registry, results, sections, style
from jaxlabs.report.damaged_files import DamagedFiles
from jaxlabs.report.figure import ReportFigure
from jaxlabs.report.stylesheet import CSS
from jaxlabs.run_folder import RunFolder

MAX_LISTED = 10
"""Characters that are named where many are missing."""


def write_report(folder: RunFolder) -> pathlib.Path:
    """Draws the run's pictures, writes them to figures/ and the page to report.html.

    What the folder does not hold (a summary, samples, arrays) is left out, so that a running or an
    interrupted run has a report as well. So is what is damaged; the page and a warning say so.

    Returns:
      The path of the page.

    Raises:
      UserError: the folder holds no run, or cannot be written.
    """
    config, summary, damaged = folder.read_config(), {}, DamagedFiles()
    if (folder.path / "summary.json").exists():
        with damaged.skip_if_damaged("summary.json"):
            summary = folder.read_summary()
    rows, pictures = folder.read_metrics(), []
    with style.mpl_style():
        for picture in registry.build_figures(folder, damaged):
            with damaged.skip_if_damaged(f"figures/{picture.name}.png"):
                pictures.append((picture, style.render(picture.figure)))
    for picture, rendered in pictures:
        folder.write_bytes(folder.figures / f"{picture.name}.png", rendered.png)
    _say_what_is_missing(frozenset().union(*(rendered.missing for _, rendered in pictures)))
    shown = {picture.name: _shown(picture, rendered) for picture, rendered in pictures}
    loss = shown.pop("loss", "")
    sampled = [shown.pop(name, "") for name in ("samples", "samples_during_training")]

    def part(file: str, section: Callable[..., str], *arguments: Any) -> str:
        with damaged.skip_if_damaged(file):
            return section(*arguments)
        return ""

    recorded, unit = "config.json or summary.json", config.get("loss_unit", "nats")
    body = [
        part(recorded, sections.header, config, summary, rows),
        part("summary.json", sections.against_published, registry.compared(folder)),
        html.section("loss", "Loss curves", loss),
        part("summary.json", results.section, summary),
        part("summary.json", problem_tables.problems, summary),
        part("summary.json", sections.groups, summary),
        # The text of worked problems is the table that already stands above.
        "" if "problems" in summary else sections.samples(folder, damaged, *sampled),
        part("summary.json", sections.final_metrics, summary, rows, unit),
        html.section("pictures", "Pictures", *shown.values()),
        part("config.json", sections.settings, config),
        part(recorded, sections.environment, config, summary),
        part(recorded, sections.reproduce, config, summary),
    ]
    body.append(sections.damaged(damaged.reasons))
    page = html.document(sections.title(config), CSS, "\n".join(filter(None, body)))
    folder.write_text(folder.report, page)
    return folder.report


def write_samples(folder: RunFolder, drawn: np.ndarray) -> pathlib.Path:
    """Draws what `--mode=sample` has drawn, `[count, height, width(, channels)]` in [0, 1].

    Returns:
      The path of the picture, figures/drawn.png.
    """
    with style.mpl_style():
        png = style.png(images.samples(drawn).figure)
    path = folder.figures / "drawn.png"
    folder.write_bytes(path, png)
    return path


def _shown(picture: ReportFigure, rendered: style.Rendered) -> str:
    heading = "" if picture.name == "loss" else f"<h3>{html.text(picture.title)}</h3>"
    caption = picture.caption
    if rendered.missing:
        caption += f" No installed font has {_listed(rendered.missing)}; placeholders are drawn."
    return heading + html.image(rendered.png, alt=picture.alt, caption=caption)


def _say_what_is_missing(characters: frozenset[str]) -> None:
    if characters:
        print(
            f"figures: no installed font has {_listed(characters)}; install one that does, such as"
            " Noto Sans, and repeat the command",
            file=sys.stderr,
        )


def _listed(characters: frozenset[str]) -> str:
    """Returns the first few of the characters, and how many more there are."""
    first, more = sorted(characters)[:MAX_LISTED], len(characters) - MAX_LISTED
    listed = "the characters " if len(characters) > 1 else "the character "
    return listed + " ".join(first) + (f" and {more} more" if more > 0 else "")
