"""Plots of recurrent networks: gradients through time, gates, weight sharing, and memory tasks."""

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.figure import Arrays, Figure, ReportFigure, report_figure
from jaxlabs.report.lines import LINES, band, label_x, log_axis_y, power_of_ten, reference

CELL_COLORS = {"rnn": style.BLUE, "lstm": style.VERMILION, "gru": style.GREEN}
SHOWN_RADII = (0.8, 0.95, 1.0, 1.1, 1.5)
TITLES = {"adding": "Adding problem", "copying": "Copying task"}
SOLVED, STARTED = 0.5, 0.95
"""Fractions of the baseline loss below which a task counts as solved, and as started."""


@report_figure("Two-step RNN: convergence by learning rate", 6.4, name="two_step_rnn")
def two_step(figure: Figure, arrays: Arrays) -> str:
    """Gradient descent on a parabola, and the distance from its minimum."""
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
    return (
        f"The gradient at w = 0.3 is {arrays['gradient']:.2g}; the curvature is "
        f"{arrays['curvature']:g}. Every update multiplies the distance from the "
        "minimum by 1 − 16 · rate: 0 at 0.0625 (converges in one step), −0.6 at 0.1 "
        "(overshoots and converges), −1 at 0.125 (oscillates), −15 at 1 and −47 at 3 "
        "(diverges). Learning rates below 2 / 16 = 0.125 converge. Backpropagation through "
        f"time and the closed form agree to {error:.0e} at all steps."
    )


@report_figure("Vanishing and exploding gradients", 7.4)
def spectral_sweep(figure: Figure, arrays: Arrays) -> str:
    """Gradient norm against the time lag, and its factor per step against the radius."""
    radii = arrays["radii"]
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
    distances = np.arange(arrays["orthogonal_rest"].shape[-1])
    error = np.abs(arrays["orthogonal_rest"] / radii[:, None] ** distances[None] - 1).max()
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
        f"every step: the geometric prediction holds to {error:.0e} over {distances[-1]} steps; a "
        "Gaussian matrix follows it asymptotically. With inputs, the slope 1 − h² < 1 of tanh also "
        f"multiplies the gradient: at radius {radii[nearest]:g} a step keeps "
        f"{driven[nearest]:.2f} of it, and {kept}. For an orthogonal matrix the prediction is then "
        "an upper bound."
    )


@report_figure("Gradient norm through time", 6.6, name="gradient_through_time")
def through_time(figure: Figure, arrays: Arrays) -> str:
    """Gradient norms of rnn, lstm and gru against the time lag, on a log scale."""
    panels = dict(zip(("before", "after"), figure.subplots(2, sharex=True), strict=True))
    summaries = []
    for when, axes in panels.items():
        ends = []
        for cell, color in CELL_COLORS.items():
            low, middle, high = arrays[f"{when}_{cell}_h"].T[:, ::-1]
            label = cell if when == "before" else None
            band(axes, np.arange(low.size), low, middle, high, color=color, label=label)
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
    return (
        "Norm of dL/dhₜ for the final output of the adding problem, relative to the last "
        "step (median over sequences; bands: 10th to 90th percentile). At a "
        f"time lag of {steps}: {'; '.join(summaries)}. Training length: "
        f"{arrays['trained_length']}. Dashed: dL/dcₜ of the LSTM, whose gradient"
        " flows through the cell state."
    )


@report_figure("Gradient clipping", 5.8)
def clipping(figure: Figure, arrays: Arrays) -> str:
    """Loss and gradient norm against the step, for runs without and with clipping."""
    upper, lower = figure.subplots(2, sharex=True)
    steps = np.arange(1, arrays["loss"].shape[-1] + 1)
    kinds = (("without clipping", style.VERMILION), ("with clipping", style.BLUE))
    shares = arrays["loss"] / arrays["baseline"]
    for (name, color), losses, norms in zip(kinds, shares, arrays["norm"], strict=True):
        line_style = {"color": color, "alpha": 0.8, "linewidth": 0.9}
        for seed, (share, norm) in enumerate(zip(losses, norms, strict=True)):
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
    shares = np.nan_to_num(shares, nan=np.inf)
    seeds, tenth = shares.shape[1], max(shares.shape[-1] // 10, 1)
    counts = (shares.max(axis=-1) > arrays["divergence_threshold"]).sum(axis=-1)
    ends = np.median(shares[..., -tenth:].mean(axis=-1), axis=-1)
    diverged = f"of {seeds} runs diverge (crosses: last loss below 1000)"
    outcomes = [f"{n} {diverged}" if n else f"none of {seeds} runs diverges" for n in counts]
    end = f"{ends[1]:.2f} of the baseline" if np.isfinite(ends[1]) else "infinity"
    return (
        f"The adding problem at length {arrays['length']}: a vanilla RNN with initial "
        f"spectral radius {arrays['radius']:g}, trained by SGD at learning rate "
        f"{arrays['rate']:g}. Without clipping {outcomes[0]}; with clip norm "
        f"{arrays['grad_clip_norm']:g} {outcomes[1]}, and the median final loss is {end}."
    )


@report_figure("Gradient paths of an LSTM")
def cell_paths(figure: Figure, arrays: Arrays) -> str:
    """Norms of dL/dc, its cell-state path and its other paths, against the time lag."""
    names = arrays["names"].tolist()
    figure.set_figheight(2.0 * len(names) + 0.9)
    panels = figure.subplots(len(names), sharex=True, squeeze=False)[:, 0]
    line_styles = {
        "total": ("dL/dc", {"color": style.SKY, "linewidth": 3.5}),
        "product": ("product of forget gates", {"color": style.VERMILION, "linestyle": "dashed"}),
        "others": ("other paths, through h", {"color": style.GREEN, "linewidth": 1.0}),
    }
    for row, (name, axes) in enumerate(zip(names, panels, strict=True)):
        for key, (label, line_style) in line_styles.items():
            values = arrays[key][row, ::-1]
            back = np.flatnonzero(values)  # the other paths are zero at the last step
            axes.plot(back, values[back], label=None if row else label, **line_style)
        axes.set(title=f"{name}: mean forget gate {arrays['forget'][row]:.2f}")
        plotted = np.concatenate([arrays["total"][row], arrays["product"][row]])
        log_axis_y(axes, max(plotted.min() / 3, 1e-40), 3 * max(plotted.max(), 1))
    panels[-1].set(xlabel="time lag before the output")
    figure.legend(loc="outside upper left", ncols=3, handlelength=1.6, columnspacing=1.2)
    first = [
        f"{name}: total {power_of_ten(arrays['total'][row, 0])}, forget-gate path "
        f"{power_of_ten(arrays['product'][row, 0])}"
        for row, name in enumerate(names)
    ]
    return (
        "Per time step, dL/dc is multiplied by the forget gate, plus the paths through h "
        "into gates and candidates of later steps. The cell-state path alone is the product"
        " of the forget gates: with stopped gate gradients both agree to "
        f"{arrays['stop_gradient_error'].max():.0e}. Green: the other paths. Relative norm "
        f"at a time lag of {arrays['total'].shape[1] - 1}: {'; '.join(first)}."
    )


@report_figure("Gates on the adding problem")
def gates(figure: Figure, arrays: Arrays) -> str:
    """Heat maps of the gates of all units over time."""
    found = [
        (name, key.removeprefix(f"{name}_"), arrays[key])
        for name in arrays["names"].tolist()
        for key in arrays
        if key.startswith(f"{name}_")
    ]
    figure.set_figheight(1.35 * len(found) + 0.8)
    panels = figure.subplots(len(found), sharex=True, squeeze=False)[:, 0]
    marked = arrays["markers"].tolist()
    colors = {"cmap": style.SCALE, "vmin": 0, "vmax": 1, "aspect": "auto"}
    for (name, gate, values), axes in zip(found, panels, strict=True):
        style.frame_only(axes)
        image = axes.imshow(values, interpolation="nearest", **colors)
        bottom = np.full(len(marked), len(values) - 0.5)
        axes.plot(marked, bottom, "^", color=style.VERMILION, markersize=6, clip_on=False)
        axes.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(len(values) - 0.5, -0.5))
        axes.set(title=f"{name}: {gate} gate", ylabel="units")
        axes.set_yticks([])
    panels[-1].set(xlabel="step (triangles: the two marked numbers)")
    figure.colorbar(image, ax=panels.tolist(), location="right", shrink=0.5, aspect=30)
    means = []
    for name, gate, values in found:
        at_marks, elsewhere = values[:, marked].mean(), np.delete(values, marked, axis=1).mean()
        means.append(f"{name} {gate} gate {at_marks:.2f} there and {elsewhere:.2f} elsewhere")
    return (
        f"Gates of trained networks on one sequence of {values.shape[1]} steps; rows are units, "
        "sorted by mean retention. Bright: 1; a forget or update gate of 1 keeps the "
        f"state. Means at the marked steps (triangles): {'; '.join(means)}."
    )


@report_figure("Weight sharing: gradients add up", 2.9, name="weight_sharing")
def shared_gradients(figure: Figure, arrays: Arrays) -> str:
    """Bars of gradient norms by step, and a line for the shared weights."""
    axes = figure.subplots()
    norms = arrays["copies"]
    axes.bar(np.arange(1, norms.size + 1), norms, color=style.BLUE)
    reference(axes, float(arrays["shared"]), "shared weights: sum over copies", below=True)
    axes.set(xlabel="step of the copy", title="gradient norm")
    return (
        f"An RNN unrolled over {norms.size} steps with one copy of the weights per step. The "
        "sum of the copies' gradients (bars) is the gradient of backpropagation through time "
        f"(line), to a relative error of {arrays['relative_difference']:.0e}. The norms "
        f"sum to {norms.sum():.3g}: the gradients differ in direction. Weight sharing reduces "
        f"{arrays['unshared_parameters']:,} parameters to {arrays['shared_parameters']:,} and "
        "allows any length."
    )


@report_figure("Weight sharing: position-dependent rule", 5.8, name="weight_sharing_rules")
def rules(figure: Figure, arrays: Arrays) -> str:
    """Losses against the step for two rules and three networks."""
    names, networks = arrays["rules"].tolist(), arrays["networks"].tolist()
    panels = figure.subplots(len(names), sharex=True)
    pieces = min(arrays["loss"].shape[-1], 60)
    edges = np.linspace(0, arrays["loss"].shape[-1], pieces + 1).astype(int)
    smooth = np.add.reduceat(arrays["loss"], edges[:-1], axis=-1) / np.diff(edges)
    colors = (style.VERMILION, style.BLUE, style.GREEN)
    for row, (name, axes) in enumerate(zip(names, panels, strict=True)):
        for column, network in enumerate(networks):
            label = f"{network} ({int(arrays['parameters'][column]):,})" if not row else None
            spread = np.quantile(smooth[row, column], (0, 0.5, 1), axis=0)
            band(axes, edges[1:], *spread, color=colors[column], label=label)
        reference(axes, arrays["chance"])
        axes.set(title=f"{name} rule: loss [nats]")
        log_axis_y(axes, smooth.min() / 2, 1.5)
    panels[-1].set(xlabel="step")
    figure.legend(loc="outside upper left", ncols=2, title="weights (parameters)")
    last = np.median(smooth[..., -1], axis=-1)
    ends = [
        ", ".join(f"{name} {loss:.2g}" for name, loss in zip(networks, row, strict=True))
        for row in last
    ]
    ratio = last[1, 0] / last[1, 1]
    verdict = (
        f"On the second rule the loss with shared weights is {ratio:.3g} times that with unshared "
        "weights: without a position input the network has to count steps. A position input "
        "removes the difference."
        if ratio > 2 and last[1, 2] < last[1, 0] / 2
        else "After so few steps there is no clear difference."
    )
    return (
        "Target: the product of the current and previous sign (top), times a fixed sign"
        " per position (bottom). Loss on new sequences: median and range of "
        f"{smooth.shape[2]} seeds; dotted: chance. Final loss, {names[0]} rule: {ends[0]}; "
        f"{names[1]} rule: {ends[1]}. {verdict}"
    )


def memory_task(arrays: Arrays) -> ReportFigure:
    """Plots the loss of each network on a memory task by sequence length."""
    lengths, kinds = arrays["lengths"].tolist(), arrays["kinds"].tolist()
    axis = "delay" if arrays["task"] == "copying" else "length"
    rows = 1 + (len(lengths) + 1) // 2
    figure = style.new_figure(2.3 * rows + 0.6)
    grid = figure.add_gridspec(rows, 2)
    final = figure.add_subplot(grid[0, :])
    steps = np.linspace(0, arrays["steps"], arrays["curves"].shape[-1] + 1)[1:]
    panels = [figure.add_subplot(grid[1 + index // 2, index % 2]) for index in range(len(lengths))]
    top = 1.6
    for kind, line, losses, curves in zip(
        kinds, LINES, arrays["final"], arrays["curves"], strict=False
    ):
        final.plot(lengths, np.minimum(np.median(losses, axis=-1), top), label=kind, **line)
        final.plot(lengths, losses, linestyle="none", alpha=0.35, **line)
        for axes, by_seed in zip(panels, curves, strict=True):
            axes.plot(steps, by_seed.T, color=line["color"], linewidth=1.1)
    for axes in (final, *panels):
        reference(axes, 1)
        axes.set_ylim(0, top)
    final.set(title="final loss / baseline (dotted: 1)", xscale="log", xlabel=axis)
    label_x(final, lengths)
    for length, axes in zip(lengths, panels, strict=True):
        axes.set(title=f"{axis} {length}", xlabel="step")
    figure.legend(loc="outside upper left", ncols=2)
    return ReportFigure(
        name=f"memory_{arrays['task']}",
        title=TITLES[str(arrays["task"])],
        caption=_memory_caption(arrays, lengths, kinds),
        alt=f"Loss against length and step for {', '.join(kinds)}.",
        figure=figure,
    )


def _memory_caption(arrays: Arrays, lengths: list[int], kinds: list[str]) -> str:
    results, solved, begun = [], [], []
    for kind, losses in zip(kinds, np.median(arrays["final"], axis=-1), strict=True):
        ends = ", ".join(f"{end:.2g} at {n}" for end, n in zip(losses, lengths, strict=True))
        results.append(f"{kind}: {ends}")
        if (losses < SOLVED).any():
            solved.append(f"{kind} up to {np.array(lengths)[losses < SOLVED].max()}")
        if (losses < STARTED).any():
            begun.append(kind)
    if solved:
        learned = f"Solved (below half of the baseline): {', '.join(solved)}."
    else:
        learned = "None is below half of the baseline after these steps."
        if begun:
            learned += f" Below {STARTED:g} at some length: {', '.join(begun)}."
    task = (
        "Target: the sum of two marked numbers of a long sequence. Baseline: the squared error "
        f"of predicting 1, {float(arrays['baseline'][0]):.4f}."
        if arrays["task"] == "adding"
        else "Target: ten symbols, repeated after a delay. Baseline (uniform guess at the right "
        f"steps): 10 log 8 / (delay + 20) = {float(arrays['baseline'][0]):.4f} nats per token at "
        f"{lengths[0]}."
    )
    seeds = arrays["final"].shape[-1]
    return (
        f"{task} {arrays['hidden_size']} units, {arrays['steps']:,} steps of Adam, "
        f"{seeds} seed{'s'[: seeds > 1]}; “chrono init”: chrono initialization of the gate biases. "
        f"Median final loss / baseline: {'; '.join(results)}. {learned}"
    )
