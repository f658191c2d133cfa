"""Plots of recurrent memory: LSTM gradient paths, gates, weight sharing, and memory tasks."""

from collections.abc import Mapping

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.figure import ReportFigure
from jaxlabs.report.lines import LINES, band, label_x, reference
from jaxlabs.report.log_axis import log_axis_y, power_of_ten

Arrays = Mapping[str, np.ndarray]

TITLES = {"adding": "Adding problem", "copying": "Copying task"}
SOLVED, STARTED = 0.5, 0.95
"""Fractions of the baseline loss below which a task counts as solved, and as started."""


def cell_paths(arrays: Arrays) -> ReportFigure:
    """Plots dL/dc_t of an LSTM, the product of forget gates, and the other gradient paths."""
    names = arrays["names"].tolist()
    figure = style.new_figure(2.0 * len(names) + 0.9)
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
    return ReportFigure(
        name="cell_paths",
        title="Gradient paths of an LSTM",
        caption=(
            "Per time step, dL/dc is multiplied by the forget gate, plus the paths through h "
            "into gates and candidates of later steps. The cell-state path alone is the product"
            " of the forget gates: with stopped gate gradients both agree to "
            f"{arrays['stop_gradient_error'].max():.0e}. Green: the other paths. Relative norm "
            f"at a time lag of {arrays['total'].shape[1] - 1}: {'; '.join(first)}."
        ),
        alt="Norms of dL/dc, its cell-state path and its other paths, against the time lag.",
        figure=figure,
    )


def gates(arrays: Arrays) -> ReportFigure:
    """Plots the gates of trained networks over one sequence of the adding problem."""
    found = [
        (name, key.removeprefix(f"{name}_"), arrays[key])
        for name in arrays["names"].tolist()
        for key in arrays
        if key.startswith(f"{name}_")
    ]
    figure = style.new_figure(1.35 * len(found) + 0.8)
    panels = figure.subplots(len(found), sharex=True, squeeze=False)[:, 0]
    marked = arrays["markers"].tolist()
    for (name, gate, values), axes in zip(found, panels, strict=True):
        style.frame_only(axes)
        image = axes.imshow(
            values, cmap=style.SCALE, vmin=0, vmax=1, aspect="auto", interpolation="nearest"
        )
        bottom = np.full(len(marked), len(values) - 0.5)
        axes.plot(marked, bottom, "^", color=style.VERMILION, markersize=6, clip_on=False)
        axes.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(len(values) - 0.5, -0.5))
        axes.set(title=f"{name}: {gate} gate", ylabel="units")
        axes.set_yticks([])
    panels[-1].set(xlabel="step (triangles: the two marked numbers)")
    figure.colorbar(image, ax=panels.tolist(), location="right", shrink=0.5, aspect=30)
    steps = found[0][2].shape[1]
    means = []
    for name, gate, values in found:
        at_marks, elsewhere = values[:, marked].mean(), np.delete(values, marked, axis=1).mean()
        means.append(f"{name} {gate} gate {at_marks:.2f} there and {elsewhere:.2f} elsewhere")
    return ReportFigure(
        name="gates",
        title="Gates on the adding problem",
        caption=(
            f"Gates of trained networks on one sequence of {steps} steps; rows are units, "
            "sorted by mean retention. Bright: 1; a forget or update gate of 1 keeps the "
            f"state. Means at the marked steps (triangles): {'; '.join(means)}."
        ),
        alt="Heat maps of the gates of all units over time.",
        figure=figure,
    )


def shared_gradients(arrays: Arrays) -> ReportFigure:
    """Plots the gradient norm of every unrolled copy of the weights, and of the shared weights."""
    figure = style.new_figure(2.9)
    axes = figure.subplots()
    norms = arrays["copies"]
    axes.bar(np.arange(1, norms.size + 1), norms, color=style.BLUE)
    reference(axes, float(arrays["shared"]), "shared weights: sum over copies", below=True)
    axes.set(xlabel="step of the copy", title="gradient norm")
    shared, unshared = (int(arrays[f"{name}_parameters"]) for name in ("shared", "unshared"))
    return ReportFigure(
        name="weight_sharing",
        title="Weight sharing: gradients add up",
        caption=(
            f"An RNN unrolled over {norms.size} steps with one copy of the weights per step. The "
            "sum of the copies' gradients (bars) is the gradient of backpropagation through time "
            f"(line), to a relative error of {float(arrays['relative_difference']):.0e}. The norms "
            f"sum to {norms.sum():.3g}: the gradients differ in direction. Weight sharing reduces "
            f"{unshared:,} parameters to {shared:,} and allows any length."
        ),
        alt="Bars of gradient norms by step, and a line for the shared weights.",
        figure=figure,
    )


def rules(arrays: Arrays) -> ReportFigure:
    """Plots the losses of shared and unshared weights on both rules against the step."""
    names, networks = arrays["rules"].tolist(), arrays["networks"].tolist()
    figure = style.new_figure(5.8)
    panels = figure.subplots(len(names), sharex=True)
    pieces = min(arrays["loss"].shape[-1], 60)
    edges = np.linspace(0, arrays["loss"].shape[-1], pieces + 1).astype(int)
    smooth = np.add.reduceat(arrays["loss"], edges[:-1], axis=-1) / np.diff(edges)
    colors = (style.VERMILION, style.BLUE, style.GREEN)
    for row, (name, axes) in enumerate(zip(names, panels, strict=True)):
        for column, network in enumerate(networks):
            label = f"{network} ({int(arrays['parameters'][column]):,})" if not row else None
            low, middle, high = np.quantile(smooth[row, column], (0, 0.5, 1), axis=0)
            band(axes, edges[1:], middle, low, high, color=colors[column], label=label)
        reference(axes, float(arrays["chance"]))
        axes.set(title=f"{name} rule: loss [nats]")
        log_axis_y(axes, smooth.min() / 2, 1.5)
    panels[-1].set(xlabel="step")
    figure.legend(loc="outside upper left", ncols=2, title="weights (parameters)")
    last = np.median(smooth[..., -1], axis=-1)
    ends = [
        ", ".join(f"{network} {last[row, column]:.2g}" for column, network in enumerate(networks))
        for row in range(len(names))
    ]
    ratio = last[1, 0] / last[1, 1]
    verdict = (
        f"On the second rule the loss with shared weights is {ratio:.3g} times that with unshared "
        "weights: without a position input the network has to count steps. A position input "
        "removes the difference."
        if ratio > 2 and last[1, 2] < last[1, 0] / 2
        else "After so few steps there is no clear difference."
    )
    return ReportFigure(
        name="weight_sharing_rules",
        title="Weight sharing: position-dependent rule",
        caption=(
            "Target: the product of the current and previous sign (top), times a fixed sign"
            " per position (bottom). Loss on new sequences: median and range of "
            f"{smooth.shape[2]} seeds; dotted: chance. Final loss, {names[0]} rule: {ends[0]}; "
            f"{names[1]} rule: {ends[1]}. {verdict}"
        ),
        alt="Losses against the step for two rules and three networks.",
        figure=figure,
    )


def memory_task(arrays: Arrays) -> ReportFigure:
    """Plots the loss of each network on a memory task by sequence length."""
    lengths, kinds = arrays["lengths"].tolist(), arrays["kinds"].tolist()
    rows = 1 + (len(lengths) + 1) // 2
    figure = style.new_figure(2.3 * rows + 0.6)
    grid = figure.add_gridspec(rows, 2)
    final = figure.add_subplot(grid[0, :])
    steps = np.linspace(0, int(arrays["steps"]), arrays["curves"].shape[-1] + 1)[1:]
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
    final.set(title="final loss / baseline (dotted: 1)", xscale="log", xlabel=_length_name(arrays))
    label_x(final, lengths)
    for length, axes in zip(lengths, panels, strict=True):
        axes.set(title=f"{_length_name(arrays)} {length}", xlabel="step")
    figure.legend(loc="outside upper left", ncols=2)
    return ReportFigure(
        name=f"memory_{arrays['task']}",
        title=TITLES[str(arrays["task"])],
        caption=_memory_caption(arrays, lengths, kinds),
        alt=f"Loss against length and step for {', '.join(kinds)}.",
        figure=figure,
    )


def _length_name(arrays: Arrays) -> str:
    return "delay" if str(arrays["task"]) == "copying" else "length"


def _memory_caption(arrays: Arrays, lengths: list[int], kinds: list[str]) -> str:
    ends = np.median(arrays["final"], axis=-1)
    results = [
        f"{kind}: " + ", ".join(f"{end:.2g} at {n}" for end, n in zip(losses, lengths, strict=True))
        for kind, losses in zip(kinds, ends, strict=True)
    ]
    longest = {
        kind: np.array(lengths)[losses < SOLVED].max()
        for kind, losses in zip(kinds, ends, strict=True)
        if (losses < SOLVED).any()
    }
    learned = (
        "Solved (below half of the baseline): "
        + ", ".join(f"{kind} up to {length}" for kind, length in longest.items())
        + "."
        if longest
        else "None is below half of the baseline after these steps."
    )
    begun = [kind for row, kind in enumerate(kinds) if (ends[row] < STARTED).any()]
    if not longest and begun:
        learned += f" Below {STARTED:g} at some length: {', '.join(begun)}."
    task = (
        "Target: the sum of two marked numbers of a long sequence. Baseline: the squared error "
        f"of predicting 1, {float(arrays['baseline'][0]):.4f}."
        if str(arrays["task"]) == "adding"
        else "Target: ten symbols, repeated after a delay. Baseline (uniform guess at the right "
        f"steps): 10 log 8 / (delay + 20) = {float(arrays['baseline'][0]):.4f} nats per token at "
        f"{lengths[0]}."
    )
    seeds = arrays["final"].shape[-1]
    return (
        f"{task} {int(arrays['hidden_size'])} units, {int(arrays['steps']):,} steps of Adam, "
        f"{seeds} seed{'s'[: seeds > 1]}; “chrono init”: chrono initialization of the gate biases. "
        f"Median final loss / baseline: {'; '.join(results)}. {learned}"
    )
