"""Pictures of gradients through time: the smallest network, radii, cells, and clipping."""

from collections.abc import Mapping

import numpy as np
from matplotlib.ticker import FuncFormatter

from jaxlabs.report import style
from jaxlabs.report.figure import ReportFigure
from jaxlabs.report.log_axis import log_axis_y, power_of_ten

Arrays = Mapping[str, np.ndarray]

MARKERS = ("o", "s", "^", "D", "v")
CELL_COLORS = {"rnn": style.BLUE, "lstm": style.VERMILION, "gru": style.GREEN}
SHOWN_RADII = (0.8, 0.95, 1.0, 1.1, 1.5)


def two_step(arrays: Arrays) -> list[ReportFigure]:
    """Draws the loss of the two-step network, and the weight at several rates."""
    figure = style.new_figure(6.4)
    upper, lower = figure.subplots(2, height_ratios=(1, 1.15))
    grid = np.linspace(0.18, 0.82, 129)
    upper.plot(grid, 8 * (grid - 0.5) ** 2, color=style.MUTED, linewidth=1.2)
    away = []
    for rate, weights, color, mark in zip(
        arrays["rates"], arrays["weights"], style.COLORS, MARKERS, strict=False
    ):
        factor = 1 - float(arrays["curvature"]) * rate
        look = {"color": color, "marker": mark, "markersize": 5}
        if np.abs(weights[1] - 0.5) < 0.32:
            upper.plot(weights[:6], 8 * (weights[:6] - 0.5) ** 2, linewidth=1, alpha=0.9, **look)
        else:
            away.append(f"rate {rate:g}: on to w = {weights[1]:.3g}")
        # What has arrived exactly would have no place on a logarithmic axis: below the picture.
        distance = np.maximum(np.abs(weights - 0.5), 1e-30)
        lower.plot(distance, label=f"rate {rate:g}, factor {factor:g}", **look)
    upper.plot(*_start(arrays), marker="o", color=style.INK, zorder=5)
    upper.annotate(
        "start, w = 0.3", _start(arrays), xytext=(7, 3), textcoords="offset points", fontsize=8.5
    )
    upper.text(0.5, 0.95, "\n".join(away), ha="center", va="top", transform=upper.transAxes)
    upper.set(title="loss 8 (w − 0.5)²", xlabel="w")
    lower.set(title="distance |w − 0.5|", xlabel="step")
    log_axis_y(lower, 1e-6, 1e6)
    lower.set_xlim(-0.4, min(arrays["weights"].shape[1] - 1, 14) + 0.4)
    figure.legend(loc="outside lower left", ncols=2)
    error = np.abs(arrays["weights"] / arrays["expected"] - 1).max()
    return [
        ReportFigure(
            name="two_step_rnn",
            title="Two steps, one weight: which rates converge, and why",
            caption=(
                f"At w = 0.3 the gradient is {float(arrays['gradient']):.2g}; the curvature is "
                f"{float(arrays['curvature']):g} everywhere. Every update therefore multiplies the "
                "distance from the bottom by 1 − 16 · rate: 0 at a rate of 0.0625 (there in one "
                "step), −0.6 at 0.1 (each step overshoots, and lands nearer), −1 at 0.125 (to and "
                "fro for ever), −15 at 1 and −47 at 3 (each step lands further away). Rates below "
                "0.125 = 2 / 16 converge. Differentiating the unrolled network and the formula "
                f"agree to {error:.0e} at all steps."
            ),
            alt="A parabola with the steps of small rates, and the distance from its bottom.",
            figure=figure,
        )
    ]


def _start(arrays: Arrays) -> tuple[float, float]:
    weight = float(arrays["weights"][0, 0])
    return weight, 8 * (weight - 0.5) ** 2


def spectral_sweep(arrays: Arrays) -> list[ReportFigure]:
    """Draws the gradient's norm against the distance, and its factor against the radius."""
    radii = arrays["radii"]
    figure = style.new_figure(7.4)
    upper, lower = figure.subplots(2, height_ratios=(1, 1.15))
    shown = [index for index, radius in enumerate(radii) if radius in SHOWN_RADII]
    for place, index in enumerate(shown or range(len(radii))):
        color = style.COLORS[place % len(style.COLORS)]
        rest, driven = arrays["orthogonal_rest"][index], arrays["orthogonal_driven"][index]
        upper.plot(rest, color=color, label=f"{radii[index]:g}")
        upper.plot(driven, color=color, linestyle="dashed", linewidth=1.1)
    upper.set(title="gradient norm: at rest (lines), driven through tanh (dashes)")
    upper.set(xlabel="steps back")
    log_axis_y(upper, 1e-20, 1e20)
    upper.legend(title="radius", fontsize=8, title_fontsize=8, loc="upper left")
    lower.plot(radii, radii, color=style.MUTED, linewidth=1, label="prediction: the radius")
    for name, label, color, mark in (
        ("orthogonal_rest", "orthogonal, at rest", style.BLUE, "o"),
        ("gaussian_rest", "Gaussian, at rest", style.SKY, "x"),
        ("orthogonal_driven", "orthogonal, tanh driven", style.VERMILION, "s"),
        ("gaussian_driven", "Gaussian, tanh driven", style.ORANGE, "^"),
    ):
        line = "none" if name.endswith("rest") else "solid"
        factors = arrays[f"{name}_factor"]
        lower.plot(radii, factors, color=color, marker=mark, linestyle=line, label=label)
    lower.axhline(1, color=style.MUTED, linestyle="dotted", linewidth=0.9)
    lower.set(title="factor per step back", xlabel="spectral radius")
    lower.legend(fontsize=8.5)
    return [
        ReportFigure(
            name="spectral_sweep",
            title="From vanishing to exploding gradients",
            caption=_sweep_words(arrays),
            alt="Gradient norm against steps back, and its factor per step against the radius.",
            figure=figure,
        )
    ]


def _sweep_words(arrays: Arrays) -> str:
    radii, steps = arrays["radii"], arrays["orthogonal_rest"].shape[-1] - 1
    error = np.abs(
        arrays["orthogonal_rest"] / radii[:, None] ** np.arange(steps + 1)[None] - 1
    ).max()
    driven = arrays["orthogonal_driven_factor"]
    growing = radii[driven > 1]
    nearest = int(np.argmin(np.abs(radii - 1)))
    kept = (
        f"only radii from {growing[0]:g} on still make gradients grow"
        if growing.size
        else "no radius here makes gradients grow any more"
    )
    return (
        "A plain network whose recurrent matrix has been scaled to a given largest eigenvalue. At "
        "rest tanh has the slope 1, the network is linear, and an orthogonal matrix multiplies the "
        f"gradient by its radius at every step: over {steps} steps the geometric prediction holds "
        f"to {error:.0e}. A Gaussian matrix gets there in the long run. Driven by inputs, tanh "
        "multiplies by its slope 1 − h² as well, which is below 1: at a radius of "
        f"{radii[nearest]:g} a step keeps {driven[nearest]:.2f} of the gradient, and {kept}. The "
        "prediction is then an upper bound for an orthogonal matrix."
    )


def through_time(arrays: Arrays) -> list[ReportFigure]:
    """Draws the norm of dL/dh_t against the steps back, before and after training."""
    figure = style.new_figure(6.6)
    panels = dict(zip(("before", "after"), figure.subplots(2, sharex=True), strict=True))
    words = []
    for when, axes in panels.items():
        ends = []
        for cell, color in CELL_COLORS.items():
            low, middle, high = arrays[f"{when}_{cell}_h"].T[:, ::-1]
            label = cell if when == "before" else None
            axes.plot(middle, color=color, label=label)
            axes.fill_between(np.arange(low.size), low, high, color=color, alpha=0.15, linewidth=0)
            ends.append(f"{power_of_ten(middle[-1])} for the {cell}")
        # c's gradient is undefined at the very end: the answer reads the h that c has made.
        inner = arrays[f"{when}_lstm_c"][::-1, 1]
        axes.plot(
            np.arange(1, inner.size),
            inner[1:],
            color=CELL_COLORS["lstm"],
            linestyle="dashed",
            label="lstm, by c" if when == "before" else None,
        )
        axes.set(title=f"{when} training")
        low, high = axes.dataLim.intervaly
        log_axis_y(axes, max(low, 1e-45) / 10, max(high, 1.0) * 10)
        words.append(f"{when} training {', '.join(ends)}")
    panels["after"].set(xlabel="steps back from the answer")
    figure.legend(loc="outside upper left", ncols=4)
    steps = arrays["before_rnn_h"].shape[0] - 1
    return [
        ReportFigure(
            name="gradient_through_time",
            title="How much of the gradient gets back through time",
            caption=(
                "The norm of dL/dhₜ of the adding problem's last answer, as a share of that at the "
                f"last step (median of the sequences, bands from 10 to 90 %). {steps} steps back "
                f"are left: {'; '.join(words)}. Training was on sequences of "
                f"{int(arrays['trained_length'])}. An LSTM's gradient travels along its c (dashes):"
                " what reaches an h has left the cell by one gate or candidate."
            ),
            alt="Gradient norms of rnn, lstm and gru against the steps back, on a log scale.",
            figure=figure,
        )
    ]


def clipping(arrays: Arrays) -> list[ReportFigure]:
    """Draws loss and gradient norm of one training run without and with clipping."""
    figure = style.new_figure(5.8)
    upper, lower = figure.subplots(2, sharex=True)
    steps = np.arange(1, arrays["loss"].shape[-1] + 1)
    kinds = (("without clipping", style.VERMILION), ("with clipping", style.BLUE))
    for row, (name, color) in enumerate(kinds):
        for seed in range(arrays["loss"].shape[1]):
            look = {"color": color, "alpha": 0.8, "linewidth": 0.9}
            share = arrays["loss"][row, seed] / float(arrays["baseline"])
            norm = arrays["norm"][row, seed]
            upper.plot(steps, share, label=None if seed else name, **look)
            lower.plot(steps, norm, **look)
            finite = np.isfinite(share) & (share < 1e3)
            if not finite.all():
                last = int(np.argmin(finite)) - 1
                upper.plot(steps[last], share[last], "x", color=color, markersize=8)
    limit = float(arrays["grad_clip_norm"])
    lower.axhline(limit, color=style.MUTED, linestyle="dotted", linewidth=1)
    lower.annotate(
        f"clipped to {limit:g}",
        (steps[0], limit),
        xytext=(0, -11),
        textcoords="offset points",
        fontsize=8.5,
        color=style.MUTED,
    )
    upper.set(title="loss, as a share of the baseline")
    lower.set(title="gradient norm before clipping", xlabel="step", xscale="log")
    lower.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    log_axis_y(upper, 0.1, 1e3)
    log_axis_y(lower, 1e-2, 1e4)
    figure.legend(loc="outside upper left", ncols=2)
    return [
        ReportFigure(
            name="clipping",
            title="The same run with and without clipping",
            caption=_clipping_words(arrays),
            alt="Loss and gradient norm against the step, for runs without and with clipping.",
            figure=figure,
        )
    ]


def _clipping_words(arrays: Arrays) -> str:
    shares = np.nan_to_num(arrays["loss"] / arrays["baseline"], nan=np.inf)
    seeds, tenth = shares.shape[1], max(shares.shape[-1] // 10, 1)
    counts = (shares.max(axis=-1) > float(arrays["blown_up"])).sum(axis=-1)
    ends = np.median(shares[..., -tenth:].mean(axis=-1), axis=-1)
    said = [
        f"{count} of {seeds} runs blow up (crosses: the last loss below 1000)"
        if count
        else f"none of {seeds} runs blows up"
        for count in counts
    ]
    end = f"{ends[1]:.2f} of the baseline" if np.isfinite(ends[1]) else "nowhere"
    return (
        f"The adding problem at length {int(arrays['length'])}: a plain network whose recurrent "
        f"matrix starts with a radius of {float(arrays['radius']):g}, plain SGD at a rate of "
        f"{float(arrays['rate']):g}. Without clipping {said[0]}; with gradients cut to a norm of "
        f"{float(arrays['grad_clip_norm']):g} {said[1]}, and the median ends at {end}."
    )
