"""Pictures of the worked problems: the scale of the scores, a ravine, batch norm, temperature."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from jaxlabs.report import style
from jaxlabs.report.figure import ReportFigure
from jaxlabs.report.log_axis import log_axis_y

Arrays = Mapping[str, np.ndarray]

MARKERS = ("o", "s", "^", "D")


def scale(arrays: Arrays) -> list[ReportFigure]:
    """Draws variance and gradient of the softmax against d_k, with and without its root."""
    figure = style.new_figure(5.4)
    panels = dict(zip(("variance", "gradient"), figure.subplots(2, sharex=True), strict=True))
    kinds = (("raw", "q · k", style.VERMILION), ("scaled", "q · k / √d_k", style.BLUE))
    for (name, axes), title in zip(
        panels.items(), ("variance of the four weights", "gradient by the scores"), strict=True
    ):
        for mark, (kind, label, color) in zip(MARKERS, kinds, strict=False):
            low, middle, high = arrays[f"{kind}_{name}"].T
            shown = label if name == "variance" else None
            axes.plot(arrays["dims"], middle, color=color, marker=mark, markersize=4, label=shown)
            axes.fill_between(arrays["dims"], low, high, color=color, alpha=0.15, linewidth=0)
        axes.set(title=title, xscale="log", ylim=(0, None))
    one_hot = float(arrays["one_hot"])
    panels["variance"].axhline(one_hot, color=style.MUTED, linestyle="dotted", linewidth=1)
    panels["variance"].annotate(
        f"one-hot, {one_hot:g}",
        (arrays["dims"][0], one_hot),
        xytext=(0, 3),
        textcoords="offset points",
        fontsize=8.5,
        color=style.MUTED,
    )
    panels["variance"].set_ylim(0, one_hot * 1.18)
    _plain_ticks(panels["gradient"], arrays["dims"][::2])
    panels["gradient"].set(xlabel="d_k")
    figure.legend(loc="outside upper left", ncols=2)
    ends = {kind: arrays[f"{kind}_gradient"][-1, 1] for kind in ("raw", "scaled")}
    return [
        ReportFigure(
            name="worked_scale",
            title="What dividing by √d_k keeps alive",
            caption=(
                "The softmax over four keys of random queries and keys; medians, bands from 10 to "
                "90 %. The dots' deviation grows as √d_k: undivided, the weights become one-hot "
                "and what is left of the gradient (norm of the softmax's Jacobian) at "
                f"d_k = {arrays['dims'][-1]} is {ends['raw']:.1g}; divided, both stay where they "
                f"were, at {ends['scaled']:.2f}."
            ),
            alt="Variance and gradient of softmax weights against d_k, with and without the root.",
            figure=figure,
        )
    ]


def ravine(arrays: Arrays) -> list[ReportFigure]:
    """Draws the ways of three optimizers through a ravine, and their distances."""
    figure = style.new_figure(6.4)
    upper, lower = figure.subplots(2, height_ratios=(1, 1.1))
    curvatures, paths = arrays["curvatures"], arrays["paths"]
    wide, high = (1.15 * np.abs(paths[..., axis]).max() for axis in (0, 1))
    x, y = np.meshgrid(np.linspace(-wide, wide, 101), np.linspace(-high, high, 101))
    heights = (curvatures[0] * x**2 + curvatures[1] * y**2) / 2
    levels = heights.max() * np.array([0.01, 0.05, 0.15, 0.35, 0.7])
    upper.contour(x, y, heights, levels=levels, colors=style.HAIRLINE, linewidths=1.2)
    steps = np.arange(paths.shape[1])
    for name, path, rate, momentum, color, mark in zip(
        *(arrays["names"], paths, arrays["rates"], arrays["momenta"], style.COLORS, MARKERS),
        strict=False,
    ):
        look = {"color": color, "marker": mark, "markersize": 3.5, "linewidth": 1.1}
        upper.plot(*path.T, **look)
        label = f"{name}: rate {rate:.3g}, momentum {momentum:.3g}"
        lower.plot(steps, np.linalg.norm(path, axis=-1), label=label, **look)
    upper.set(title="the way to the bottom, at 0", xlabel="along", ylabel="across")
    upper.grid(False)
    lower.set(title="distance from the bottom", xlabel="step")
    best = float(arrays["momenta"][-1])
    start = np.linalg.norm(paths[0, 0])
    theory = start * np.sqrt(best) ** steps
    lower.plot(steps, theory, color=style.MUTED, linestyle="dotted", label=f"√{best:.3f} per step")
    log_axis_y(lower, theory[-1] / 3, start * 3)
    figure.legend(loc="outside lower left", fontsize=8.5)
    ends = np.linalg.norm(paths[:, -1], axis=-1)
    return [
        ReportFigure(
            name="worked_ravine",
            title="Momentum in a ravine",
            caption=(
                f"Curvatures of {curvatures[0]:g} along and {curvatures[1]:g} across, so that "
                f"theory's momentum is ((√{curvatures[1] / curvatures[0]:g} − 1) / "
                f"(√{curvatures[1] / curvatures[0]:g} + 1))² = {best:.3f}. After {steps[-1]} steps "
                f"plain descent at its best rate is {ends[0]:.2g} away, the usual 0.9 "
                f"{ends[1]:.2g} (it overshoots), the best momentum {ends[2]:.1g}: it shrinks the "
                "distance by √momentum a step, up to a factor that grows as the steps do."
            ),
            alt="Three zigzag ways through an elongated valley, and their distances on a log axis.",
            figure=figure,
        )
    ]


def batch_norm(arrays: Arrays) -> list[ReportFigure]:
    """Draws the samples' entries before and after normalization, in both readings."""
    figure = style.new_figure(5.6)
    training = int(arrays["training"])
    shape = arrays["values"].shape[2:]
    entries = [f"[{row}, {column}]" for row, column in np.ndindex(*shape)]
    for axes, name, title in zip(
        figure.subplots(2, sharex=True),
        ("values", "normalized"),
        ("as given", "normalized by the training samples' mean and variance"),
        strict=True,
    ):
        printed, mended = (reading.reshape(len(reading), -1) for reading in arrays[name])
        places = np.broadcast_to(np.arange(printed.shape[1])[None], printed.shape)
        differs = printed != mended
        if name == "normalized":
            axes.axhline(0, color=style.MUTED, linewidth=0.8)
        for part, label, color, mark, aside in (
            (slice(None, training), "training samples", style.BLUE, "o", -0.15),
            (slice(training, None), "test samples", style.VERMILION, "D", 0.0),
        ):
            shown = label if name == "values" else None
            x, y = places[part] + aside, printed[part]
            axes.plot(x.ravel(), y.ravel(), mark, color=color, alpha=0.8, label=shown)
            other = differs[part]
            axes.plot(x[other] + 0.35, mended[part][other], mark, color=color, mfc="none")
        axes.set_title(title)
    axes.plot([], [], "o", color=style.INK, mfc="none", label="with the misprint mended")
    axes.set_xticks(range(len(entries)), entries)
    axes.set(xlabel="entry")
    figure.legend(loc="outside upper left", ncols=2, fontsize=8.5)
    return [
        ReportFigure(
            name="worked_batch_norm",
            title="Batch normalization by hand",
            caption=(
                f"Every entry of the {training} training samples is moved and scaled by its own "
                "mean and deviation; two test samples by the same ones, so they need not have "
                "mean 0. One printed number does not go with the printed mean and variance; "
                "hollow is what changes when it is mended."
            ),
            alt="Six columns of dots, the samples' entries, before and after normalization.",
            figure=figure,
        )
    ]


def temperature(arrays: Arrays) -> list[ReportFigure]:
    """Draws the InfoNCE gradient of one query's cosines against the temperature."""
    figure = style.new_figure(5.8)
    upper, lower = figure.subplots(2, sharex=True)
    temperatures, cosines, gradients = (
        arrays[name] for name in ("temperatures", "cosines", "gradients")
    )
    push = gradients[:, 1:] / -gradients[:, :1]
    for key, (cosine, color) in enumerate(zip(cosines, style.COLORS, strict=False)):
        kind = "its own key" if key == 0 else "another"
        label = f"{kind}, cosine {cosine:g}".replace("-", "−")
        upper.plot(temperatures, gradients[:, key], color=color, label=label)
        if key:
            lower.plot(temperatures, push[:, key - 1], color=color)
    upper.axhline(0, color=style.MUTED, linewidth=0.8)
    upper.set(title="gradient by the cosine", xscale="log")
    lower.set(title="share of each negative in the push", xlabel="temperature", ylim=(0, 1.02))
    _plain_ticks(lower, (0.02, 0.07, 0.2, 0.5, 1, 2))
    figure.legend(loc="outside upper left", ncols=2, fontsize=8.5)
    steepest = int(np.abs(gradients[:, 0]).argmax())
    return [
        ReportFigure(
            name="worked_temperature",
            title="Which negatives the temperature makes count",
            caption=(
                "The gradient (softmax − 1[own key]) / temperature of one query: its own key is "
                "pulled (below 0), all others pushed (above), and both sum to nothing. At a low "
                f"temperature the nearest negative takes most of the push ({push[0, 0]:.0%} at "
                f"{temperatures[0]:g}), at a high one all share it; the pull is strongest at "
                f"{temperatures[steepest]:.2g} for these cosines."
            ),
            alt="Gradients of four cosines against the temperature, and shares of the negatives.",
            figure=figure,
        )
    ]


def _plain_ticks(axes: Axes, places) -> None:
    axes.xaxis.set_major_locator(FixedLocator(list(places)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
