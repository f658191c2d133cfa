"""Pictures of memory: paths along and around a cell, its gates, shared weights, and long tasks."""

from collections.abc import Mapping

import numpy as np
from matplotlib.ticker import FuncFormatter, NullFormatter

from jaxlabs.report import style
from jaxlabs.report.figure import ReportFigure
from jaxlabs.report.log_axis import log_axis_y, power_of_ten

Arrays = Mapping[str, np.ndarray]

MARKERS = ("o", "s", "^", "D")
LEARNED, HARDLY = 0.5, 0.95
"""Shares of the baseline below which a task counts as learned, and above which as not begun."""


def cell_paths(arrays: Arrays) -> list[ReportFigure]:
    """Draws an LSTM's dL/dc_t, the product of forget gates, and what the other paths add."""
    names = arrays["names"].tolist()
    figure = style.new_figure(2.0 * len(names) + 0.9)
    panels = figure.subplots(len(names), sharex=True, squeeze=False)[:, 0]
    looks = {
        "total": ("dL/dc", {"color": style.SKY, "linewidth": 3.5}),
        "product": ("product of forget gates", {"color": style.VERMILION, "linestyle": "dashed"}),
        "others": ("other paths, through h", {"color": style.GREEN, "linewidth": 1.0}),
    }
    for row, (name, axes) in enumerate(zip(names, panels, strict=True)):
        for part, (label, look) in looks.items():
            values = arrays[part][row, ::-1]
            back = np.flatnonzero(values)  # nothing goes another way at the last step itself
            axes.plot(back, values[back], label=None if row else label, **look)
        axes.set(title=f"{name}: forget gates {arrays['forget'][row]:.2f} on average")
        drawn = np.concatenate([arrays["total"][row], arrays["product"][row]])
        log_axis_y(axes, max(drawn.min() / 3, 1e-40), 3 * max(drawn.max(), 1))
    panels[-1].set(xlabel="steps back from the answer")
    figure.legend(loc="outside upper left", ncols=3, handlelength=1.6, columnspacing=1.2)
    first = [
        f"{name}, {power_of_ten(arrays['total'][row, 0])} of the gradient arrives, along the cell "
        f"{power_of_ten(arrays['product'][row, 0])}"
        for row, name in enumerate(names)
    ]
    return [
        ReportFigure(
            name="cell_paths",
            title="An LSTM's gradient along its cell and around it",
            caption=(
                "One step back, dL/dc is multiplied by the forget gate, and gains what goes "
                "through h into the gates and candidates of later steps. Along the cell alone it "
                "is the product of all forget gates in between: with gates held constant both "
                f"agree to {arrays['held_error'].max():.0e}. The green line is what the other "
                f"paths add. {arrays['total'].shape[1] - 1} steps back, {'; '.join(first)}."
            ),
            alt="Norms of dL/dc, of its path along the cell and of the rest, against steps back.",
            figure=figure,
        )
    ]


def gates(arrays: Arrays) -> list[ReportFigure]:
    """Draws the gates of trained networks over one sequence of the adding problem."""
    found = [
        (name, key.removeprefix(f"{name}_"), arrays[key])
        for name in arrays["names"].tolist()
        for key in arrays
        if key.startswith(f"{name}_")
    ]
    figure = style.new_figure(1.35 * len(found) + 0.8)
    panels = figure.subplots(len(found), sharex=True, squeeze=False)[:, 0]
    marks = arrays["marks"].tolist()
    for (name, gate, values), axes in zip(found, panels, strict=True):
        style.frame_only(axes)
        image = axes.imshow(
            values, cmap=style.SCALE, vmin=0, vmax=1, aspect="auto", interpolation="nearest"
        )
        at = np.full(len(marks), len(values) - 0.5)
        axes.plot(marks, at, "^", color=style.VERMILION, markersize=6, clip_on=False)
        axes.set(xlim=(-0.5, values.shape[1] - 0.5), ylim=(len(values) - 0.5, -0.5))
        axes.set(title=f"{name}: {gate} gate", ylabel="units")
        axes.set_yticks([])
    panels[-1].set(xlabel="step (arrows: the two marked numbers)")
    figure.colorbar(image, ax=panels.tolist(), location="right", shrink=0.5, aspect=30)
    steps = found[0][2].shape[1]
    told = []
    for name, gate, values in found:
        at, else_ = values[:, marks].mean(), np.delete(values, marks, axis=1).mean()
        told.append(f"the {name}'s {gate} gate is {at:.2f} on average there and {else_:.2f} else")
    return [
        ReportFigure(
            name="gates",
            title="Gates while two numbers are added up",
            caption=(
                f"One sequence of {steps} steps, read by trained networks; each row is a unit, "
                "those that keep most on top. Bright is open: a forget or update gate of 1 keeps "
                "all that was there. Look above the arrows, where the marked numbers come in: "
                f"{'; '.join(told)}."
            ),
            alt="Gates of all units over time, as maps.",
            figure=figure,
        )
    ]


def shared_gradients(arrays: Arrays) -> list[ReportFigure]:
    """Draws the gradient of every copy of the weights, and of the weights that they share."""
    figure = style.new_figure(2.9)
    axes = figure.subplots()
    norms = arrays["copies"]
    axes.bar(np.arange(1, norms.size + 1), norms, color=style.BLUE)
    axes.axhline(float(arrays["shared"]), color=style.VERMILION, linewidth=1.2)
    axes.annotate(
        "shared weights = sum of the copies",
        (0.5, float(arrays["shared"])),
        xytext=(0, -12),
        textcoords="offset points",
        color=style.VERMILION,
        fontsize=8.5,
    )
    axes.set(xlabel="copy of the weights at step", title="norm of the gradient")
    shared, unshared = (int(arrays[f"{name}_parameters"]) for name in ("shared", "unshared"))
    return [
        ReportFigure(
            name="weight_sharing",
            title="Shared weights: the gradients of the copies add up",
            caption=(
                f"Unrolled over {norms.size} steps, a network is a stack of copies. Each has its "
                "own gradient (bars); added up as vectors they are the gradient of "
                "backpropagation through time (line), to a relative difference of "
                f"{float(arrays['relative_difference']):.0e}. The line is below the bars' total of "
                f"{norms.sum():.3g} because the copies pull in different directions. Sharing "
                f"leaves {shared:,} of {unshared:,} parameters, and sequences of any length."
            ),
            alt="Bars of gradient norms by step, and a line for the shared weights.",
            figure=figure,
        )
    ]


def rules(arrays: Arrays) -> list[ReportFigure]:
    """Draws the losses of shared and unshared weights on both rules against the step."""
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
            values = smooth[row, column]
            axes.plot(edges[1:], np.median(values, axis=0), color=colors[column], label=label)
            axes.fill_between(
                edges[1:],
                values.min(axis=0),
                values.max(axis=0),
                color=colors[column],
                alpha=0.15,
                linewidth=0,
            )
        axes.axhline(float(arrays["chance"]), color=style.MUTED, linestyle="dotted", linewidth=0.9)
        axes.set(title=f"a rule that is {name} [nats]")
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
        f"The shared network's loss there is {ratio:.3g} times that of the unshared one: having "
        "no place in its input, it has to count the steps itself before it can look the sign up. "
        "Telling it the position takes the difficulty away."
        if ratio > 2 and last[1, 2] < last[1, 0] / 2
        else "After so few steps the difference is not to be seen yet."
    )
    return [
        ReportFigure(
            name="weight_sharing_rules",
            title="What shared weights find hard",
            caption=(
                "Every step is to say the product of a sign and the sign before it; below, that "
                "times a sign of its own for each position. Losses on fresh rows (median and range "
                f"of {smooth.shape[2]} seeds; dotted: a guess) end at: {ends[0]} for the rule that "
                f"is the same everywhere; {ends[1]} for the other. {verdict}"
            ),
            alt="Losses against the step for two rules and three kinds of network.",
            figure=figure,
        )
    ]


def memory_task(arrays: Arrays) -> list[ReportFigure]:
    """Draws what each kind of network makes of a memory task at every length."""
    lengths, kinds = arrays["lengths"].tolist(), arrays["kinds"].tolist()
    rows = 1 + (len(lengths) + 1) // 2
    figure = style.new_figure(2.3 * rows + 0.6)
    grid = figure.add_gridspec(rows, 2)
    final = figure.add_subplot(grid[0, :])
    steps = np.linspace(0, int(arrays["steps"]), arrays["curves"].shape[-1] + 1)[1:]
    panels = [figure.add_subplot(grid[1 + index // 2, index % 2]) for index in range(len(lengths))]
    top = 1.6
    for row, kind in enumerate(kinds):
        look = {"color": style.COLORS[row], "marker": MARKERS[row % len(MARKERS)]}
        ends = np.median(arrays["final"][row], axis=-1)
        final.plot(lengths, np.minimum(ends, top), label=kind, **look)
        for seed in range(arrays["final"].shape[-1]):
            final.plot(lengths, arrays["final"][row, :, seed], linestyle="none", alpha=0.35, **look)
        for column, axes in enumerate(panels):
            for curve in arrays["curves"][row, column]:
                axes.plot(steps, curve, color=style.COLORS[row], linewidth=1.1)
    for axes in (final, *panels):
        axes.axhline(1, color=style.MUTED, linestyle="dotted", linewidth=0.9)
        axes.set_ylim(0, top)
    final.set(title="final loss, as a share of the baseline (dotted)", xscale="log")
    final.set_xticks(lengths)
    final.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    final.xaxis.set_minor_formatter(NullFormatter())
    final.set(xlabel=_what(arrays))
    for length, axes in zip(lengths, panels, strict=True):
        axes.set(title=f"{_what(arrays)} {length}", xlabel="step")
    figure.legend(loc="outside upper left", ncols=2)
    return [
        ReportFigure(
            name=f"memory_{arrays['task']}",
            title=TITLES[str(arrays["task"])],
            caption=_memory_words(arrays, lengths, kinds),
            alt=f"Loss against length and step for {', '.join(kinds)}.",
            figure=figure,
        )
    ]


TITLES = {
    "adding": "The adding problem: which cell remembers two numbers",
    "copying": "The copy task: which cell remembers ten symbols",
}


def _what(arrays: Arrays) -> str:
    return "delay" if str(arrays["task"]) == "copying" else "length"


def _memory_words(arrays: Arrays, lengths: list[int], kinds: list[str]) -> str:
    ends = np.median(arrays["final"], axis=-1)
    told = []
    for row, kind in enumerate(kinds):
        parts = ", ".join(
            f"{end:.2g} at {length}" for end, length in zip(ends[row], lengths, strict=True)
        )
        told.append(f"{kind}: {parts}")
    longest = {
        kind: max((length for length, end in zip(lengths, ends[row], strict=True) if end < LEARNED))
        for row, kind in enumerate(kinds)
        if (ends[row] < LEARNED).any()
    }
    learned = (
        "Learned (below half of the baseline): "
        + ", ".join(f"{kind} up to {length}" for kind, length in longest.items())
        + "."
        if longest
        else "None gets below half of the baseline in so few steps."
    )
    begun = [kind for row, kind in enumerate(kinds) if (ends[row] < HARDLY).any()]
    if not longest and begun:
        learned += f" Under way, at {HARDLY:g} or less somewhere: {', '.join(begun)}."
    task = (
        "Two numbers of a long sequence are marked; at its end their sum is asked for. The "
        f"baseline, {float(arrays['baseline'][0]):.4f}, is the squared error of always saying 1."
        if str(arrays["task"]) == "adding"
        else "Ten symbols have to be repeated after a delay. The baseline, 10 log 8 / (delay + 20)"
        f" = {float(arrays['baseline'][0]):.4f} nats per token at {lengths[0]}, is knowing when "
        "but not what."
    )
    seeds = arrays["final"].shape[-1]
    return (
        f"{task} {int(arrays['hidden'])} units, {int(arrays['steps']):,} steps of Adam, "
        f"{seeds} seed{'s'[: seeds > 1]}; “gates spread” is an LSTM whose gates start with "
        "memories of all lengths up to the task's. Final loss over baseline (medians): "
        f"{'; '.join(told)}. {learned}"
    )
