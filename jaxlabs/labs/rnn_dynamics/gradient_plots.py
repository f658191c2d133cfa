"""Plots of gradients through time: two-step RNN, spectral radius, cells, and clipping."""

from collections.abc import Mapping

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.figure import ReportFigure
from jaxlabs.report.lines import LINES, band, reference
from jaxlabs.report.log_axis import log_axis_y, power_of_ten

Arrays = Mapping[str, np.ndarray]

CELL_COLORS = {"rnn": style.BLUE, "lstm": style.VERMILION, "gru": style.GREEN}
SHOWN_RADII = (0.8, 0.95, 1.0, 1.1, 1.5)


def two_step(arrays: Arrays) -> ReportFigure:
    """Plots the loss of the two-step network, and gradient descent at several learning rates."""
    figure = style.new_figure(6.4)
    upper, lower = figure.subplots(2, height_ratios=(1, 1.15))
    grid = np.linspace(0.18, 0.82, 129)
    upper.plot(grid, 8 * (grid - 0.5) ** 2, color=style.MUTED, linewidth=1.2)
    outside = []
    for rate, weights, line in zip(arrays["rates"], arrays["weights"], LINES, strict=False):
        factor = 1 - float(arrays["curvature"]) * rate
        line_style = line | {"markersize": 5}
        if np.abs(weights[1] - 0.5) < 0.32:
            shown = weights[:6]
            upper.plot(shown, 8 * (shown - 0.5) ** 2, linewidth=1, alpha=0.9, **line_style)
        else:
            outside.append(f"rate {rate:g}: next w = {weights[1]:.3g}")
        # Zero has no logarithm; clip it to below the axis.
        distance = np.maximum(np.abs(weights - 0.5), 1e-30)
        lower.plot(distance, label=f"rate {rate:g}, factor {factor:g}", **line_style)
    first = float(arrays["weights"][0, 0])
    start = first, 8 * (first - 0.5) ** 2
    upper.plot(*start, marker="o", color=style.INK, zorder=5)
    options = {"textcoords": "offset points", "fontsize": 8.5}
    upper.annotate("start, w = 0.3", start, xytext=(7, 3), **options)
    upper.text(0.5, 0.95, "\n".join(outside), ha="center", va="top", transform=upper.transAxes)
    upper.set(title="loss 8 (w − 0.5)²", xlabel="w")
    lower.set(title="distance |w − 0.5|", xlabel="step")
    log_axis_y(lower, 1e-6, 1e6)
    lower.set_xlim(-0.4, min(arrays["weights"].shape[1] - 1, 14) + 0.4)
    figure.legend(loc="outside lower left", ncols=2)
    error = np.abs(arrays["weights"] / arrays["expected"] - 1).max()
    return ReportFigure(
        name="two_step_rnn",
        title="Two-step RNN: convergence by learning rate",
        caption=(
            f"The gradient at w = 0.3 is {float(arrays['gradient']):.2g}; the curvature is "
            f"{float(arrays['curvature']):g}. Every update multiplies the distance from the "
            "minimum by 1 − 16 · rate: 0 at 0.0625 (converges in one step), −0.6 at 0.1 "
            "(overshoots and converges), −1 at 0.125 (oscillates), −15 at 1 and −47 at 3 "
            "(diverges). Learning rates below 2 / 16 = 0.125 converge. Backpropagation through "
            f"time and the closed form agree to {error:.0e} at all steps."
        ),
        alt="Gradient descent on a parabola, and the distance from its minimum.",
        figure=figure,
    )


def spectral_sweep(arrays: Arrays) -> ReportFigure:
    """Plots gradient norm against the time lag, and decay per step against spectral radius."""
    radii = arrays["radii"]
    figure = style.new_figure(7.4)
    upper, lower = figure.subplots(2, height_ratios=(1, 1.15))
    shown = [index for index, radius in enumerate(radii) if radius in SHOWN_RADII]
    for position, index in enumerate(shown or range(len(radii))):
        color = style.COLORS[position % len(style.COLORS)]
        rest, driven = arrays["orthogonal_rest"][index], arrays["orthogonal_driven"][index]
        upper.plot(rest, color=color, label=f"{radii[index]:g}")
        upper.plot(driven, color=color, linestyle="dashed", linewidth=1.1)
    upper.set(title="gradient norm: linear (solid), driven tanh (dashed)", xlabel="time lag")
    log_axis_y(upper, 1e-20, 1e20)
    upper.legend(title="radius", fontsize=8, title_fontsize=8, loc="upper left")
    lower.plot(radii, radii, color=style.MUTED, linewidth=1, label="prediction: radius")
    for name, label, color, marker in (
        ("orthogonal_rest", "orthogonal, linear", style.BLUE, "o"),
        ("gaussian_rest", "Gaussian, linear", style.SKY, "x"),
        ("orthogonal_driven", "orthogonal, driven tanh", style.VERMILION, "s"),
        ("gaussian_driven", "Gaussian, driven tanh", style.ORANGE, "^"),
    ):
        line = "none" if name.endswith("rest") else "solid"
        factors = arrays[f"{name}_factor"]
        lower.plot(radii, factors, color=color, marker=marker, linestyle=line, label=label)
    reference(lower, 1)
    lower.set(title="factor per time step", xlabel="spectral radius")
    lower.legend(fontsize=8.5)
    return ReportFigure(
        name="spectral_sweep",
        title="Vanishing and exploding gradients",
        caption=_sweep_caption(arrays),
        alt="Gradient norm against the time lag, and its factor per step against the radius.",
        figure=figure,
    )


def _sweep_caption(arrays: Arrays) -> str:
    radii, steps = arrays["radii"], arrays["orthogonal_rest"].shape[-1] - 1
    error = np.abs(
        arrays["orthogonal_rest"] / radii[:, None] ** np.arange(steps + 1)[None] - 1
    ).max()
    driven = arrays["orthogonal_driven_factor"]
    growing = radii[driven > 1]
    nearest = int(np.argmin(np.abs(radii - 1)))
    kept = (
        f"gradients grow only at radii of {growing[0]:g} and above"
        if growing.size
        else "gradients grow at no radius shown"
    )
    return (
        "A vanilla RNN whose recurrent matrix is scaled to a given spectral radius. At h = 0 tanh "
        "is linear with slope 1, and an orthogonal matrix multiplies the gradient by its radius at "
        f"every step: the geometric prediction holds to {error:.0e} over {steps} steps; a Gaussian "
        "matrix follows it asymptotically. With inputs, the slope 1 − h² < 1 of tanh also "
        f"multiplies the gradient: at radius {radii[nearest]:g} a step keeps "
        f"{driven[nearest]:.2f} of it, and {kept}. For an orthogonal matrix the prediction is then "
        "an upper bound."
    )


def through_time(arrays: Arrays) -> ReportFigure:
    """Plots the norm of dL/dh_t against the time lag, before and after training."""
    figure = style.new_figure(6.6)
    panels = dict(zip(("before", "after"), figure.subplots(2, sharex=True), strict=True))
    summaries = []
    for when, axes in panels.items():
        ends = []
        for cell, color in CELL_COLORS.items():
            low, middle, high = arrays[f"{when}_{cell}_h"].T[:, ::-1]
            label = cell if when == "before" else None
            band(axes, np.arange(low.size), middle, low, high, color=color, label=label)
            ends.append(f"{power_of_ten(middle[-1])} for the {cell}")
        # dL/dc of the last step is excluded: the output reads h of that step.
        inner = arrays[f"{when}_lstm_c"][::-1, 1]
        options = {"color": CELL_COLORS["lstm"], "linestyle": "dashed"}
        label = "lstm, dL/dc" if when == "before" else None
        axes.plot(np.arange(1, inner.size), inner[1:], label=label, **options)
        axes.set(title=f"{when} training")
        low, high = axes.dataLim.intervaly
        log_axis_y(axes, max(low, 1e-45) / 10, max(high, 1.0) * 10)
        summaries.append(f"{when} training {', '.join(ends)}")
    panels["after"].set(xlabel="time lag before the output")
    figure.legend(loc="outside upper left", ncols=4)
    steps = arrays["before_rnn_h"].shape[0] - 1
    return ReportFigure(
        name="gradient_through_time",
        title="Gradient norm through time",
        caption=(
            "Norm of dL/dhₜ for the final output of the adding problem, relative to the last "
            "step (median over sequences; bands: 10th to 90th percentile). At a "
            f"time lag of {steps}: {'; '.join(summaries)}. Training length: "
            f"{int(arrays['trained_length'])}. Dashed: dL/dcₜ of the LSTM, whose gradient"
            " flows through the cell state."
        ),
        alt="Gradient norms of rnn, lstm and gru against the time lag, on a log scale.",
        figure=figure,
    )


def clipping(arrays: Arrays) -> ReportFigure:
    """Plots loss and gradient norm of training without and with gradient clipping."""
    figure = style.new_figure(5.8)
    upper, lower = figure.subplots(2, sharex=True)
    steps = np.arange(1, arrays["loss"].shape[-1] + 1)
    kinds = (("without clipping", style.VERMILION), ("with clipping", style.BLUE))
    for row, (name, color) in enumerate(kinds):
        for seed in range(arrays["loss"].shape[1]):
            line_style = {"color": color, "alpha": 0.8, "linewidth": 0.9}
            share = arrays["loss"][row, seed] / float(arrays["baseline"])
            norm = arrays["norm"][row, seed]
            upper.plot(steps, share, label=None if seed else name, **line_style)
            lower.plot(steps, norm, **line_style)
            finite = np.isfinite(share) & (share < 1e3)
            if not finite.all():
                last = int(np.argmin(finite)) - 1
                upper.plot(steps[last], share[last], "x", color=color, markersize=8)
    limit = float(arrays["grad_clip_norm"])
    reference(lower, limit, f"clip norm {limit:g}", below=True)
    upper.set(title="loss / baseline")
    lower.set(title="gradient norm before clipping", xlabel="step", xscale="log")
    lower.xaxis.set_major_formatter("{x:g}")
    log_axis_y(upper, 0.1, 1e3)
    log_axis_y(lower, 1e-2, 1e4)
    figure.legend(loc="outside upper left", ncols=2)
    return ReportFigure(
        name="clipping",
        title="Gradient clipping",
        caption=_clipping_caption(arrays),
        alt="Loss and gradient norm against the step, for runs without and with clipping.",
        figure=figure,
    )


def _clipping_caption(arrays: Arrays) -> str:
    shares = np.nan_to_num(arrays["loss"] / arrays["baseline"], nan=np.inf)
    seeds, tenth = shares.shape[1], max(shares.shape[-1] // 10, 1)
    counts = (shares.max(axis=-1) > float(arrays["divergence_threshold"])).sum(axis=-1)
    ends = np.median(shares[..., -tenth:].mean(axis=-1), axis=-1)
    outcomes = [
        f"{count} of {seeds} runs diverge (crosses: last loss below 1000)"
        if count
        else f"none of {seeds} runs diverges"
        for count in counts
    ]
    end = f"{ends[1]:.2f} of the baseline" if np.isfinite(ends[1]) else "infinity"
    return (
        f"The adding problem at length {int(arrays['length'])}: a vanilla RNN with initial "
        f"spectral radius {float(arrays['radius']):g}, trained by SGD at learning rate "
        f"{float(arrays['rate']):g}. Without clipping {outcomes[0]}; with clip norm "
        f"{float(arrays['grad_clip_norm']):g} {outcomes[1]}, and the median final loss is {end}."
    )
