"""A run in a notebook: its metrics and its loss curve, as HTML without a style sheet."""

from jaxlabs.report import html, sections, style
from jaxlabs.report.figures import comparison, summary_so_far
from jaxlabs.report.loss import loss_curves
from jaxlabs.report.page import Experiment
from jaxlabs.run_folder import RunFolder


def run_card(folder: RunFolder, lab: Experiment) -> str:
    """Returns title, final metrics and loss curve of a run, as far as it has come."""
    config, summary, rows = folder.read_config(), summary_so_far(folder), folder.read_metrics()
    unit = config.get("loss_unit", "nats")
    parts = [f"<h3>{html.text(sections.title(config))}</h3>"]
    with style.mpl_style():
        loss = loss_curves(
            rows, summary.get("baselines", {}), comparison(folder, lab.published), unit
        )
        if loss is not None:
            png = style.png(loss.figure)
            parts.append(html.image(png, alt=loss.alt, caption=loss.caption, width=640))
    return "\n".join([*parts, sections.final_metrics(summary, rows, unit)])
