"""Plots of the benchmark: time ratios, and attention against sequence length."""

import math

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.figure import Arrays, Figure, report_figure
from jaxlabs.report.lines import LINES, label_x

OURS = "jaxlabs"
PRECISIONS = {"float32": style.BLUE, "bfloat16": style.VERMILION, "float64": style.GREEN}
TICKS = tuple(digit * 10.0**power for power in range(-3, 4) for digit in (1, 2, 5))


@report_figure("Time relative to the fastest peer", name="benchmark_ratios")
def ratios(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots the time of every case over that of the fastest peer in its group."""
    from matplotlib.lines import Line2D

    groups = list(dict.fromkeys(arrays["group"].tolist()))
    ours, values = arrays["framework"] == OURS, arrays["ratio"]
    figure.set_figheight(1.3 + 0.3 * len(groups))
    axes = figure.subplots()
    axes.axvline(1, color=style.MUTED, linewidth=1.0)
    for precision, color in PRECISIONS.items():
        for mine in (False, True):
            chosen = (arrays["precision"] == precision) & (ours == mine)
            rows = [groups.index(name) for name in arrays["group"][chosen].tolist()]
            face = color if mine else "none"
            axes.plot(values[chosen], rows, "o", color=color, markerfacecolor=face, markersize=6)
    axes.set(xscale="log", xlabel="time / time of the fastest peer")
    axes.set_yticks(range(len(groups)), groups, fontsize=8.5)
    axes.invert_yaxis()
    low, high = min(values.min() / 1.3, 0.45), max(values.max() * 1.3, 2.2)
    named = [tick for tick in TICKS if low <= tick <= high]
    named = [tick for tick in named if len(named) <= 7 or math.log10(tick).is_integer()]
    label_x(axes, named)
    axes.set_xlim(low, high)
    used = [name for name in PRECISIONS if name in arrays["precision"]]
    line_style = {"linestyle": "none", "marker": "o"}
    handles = [
        *(Line2D([], [], color=PRECISIONS[name], label=name, **line_style) for name in used),
        Line2D([], [], color=style.INK, label="ours", **line_style),
        Line2D([], [], color=style.INK, markerfacecolor="none", label="peer", **line_style),
    ]
    options = {"handlelength": 0.8, "columnspacing": 1.0, "handletextpad": 0.4, "fontsize": 8.5}
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), **options)
    best = [values[ours & (arrays["group"] == name)].min(initial=np.inf) for name in groups]
    won = sum(ratio < 1 for ratio in best)
    caption = (
        "Median time of each case relative to the fastest peer in any precision and mode; below 1 "
        "is faster. Filled: ours. Open: PyTorch (eager, compiled, bfloat16 autocast) or numpy. "
        f"Ours is the fastest in {won} of {len(groups)} rows."
    )
    return caption, f"Time ratios in {len(groups)} rows, ours and peers."


@report_figure("Sliding-window and full causal attention", 6.6)
def window_attention(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots time and memory of sliding-window and full causal attention against length."""
    names = sorted(set(arrays["case"].tolist()), key=lambda name: (not name.startswith(OURS), name))
    upper, lower = figure.subplots(2, sharex=True)
    for name, line in zip(names, LINES, strict=False):
        chosen = arrays["case"] == name
        order = np.argsort(arrays["length"][chosen])
        length = arrays["length"][chosen][order]
        dashes = "solid" if name.startswith(OURS) else "dashed"
        line_style = line | {"markersize": 5, "linestyle": dashes}
        upper.plot(length, arrays["seconds"][chosen][order], label=name, **line_style)
        # Below 1 MiB the measurement shows the allocator only.
        lower.plot(length, np.maximum(arrays["memory"][chosen][order] / 2**20, 1), **line_style)
    upper.set(title="time of forward + backward pass [s]", yscale="log")
    lower.set(title="memory beyond the import of the library [MiB]", yscale="log")
    lower.set_xlabel("sequence length")
    ticks = np.unique(arrays["length"])
    for axes in (upper, lower):
        axes.set_xscale("log", base=2)
        label_x(axes, ticks, [f"{tick // 1024}k" for tick in ticks])
        axes.yaxis.minorticks_off()
        axes.yaxis.set_major_formatter("{x:g}")
    figure.legend(loc="outside upper left", ncols=2, fontsize=8.5, handlelength=2.2)
    caption = (
        f"Log-log axes: slope 1 is linear, slope 2 quadratic growth. {_growth(arrays)} Constant "
        "memory is that of compilation. A line ends at the last length that fits into memory and "
        "time."
    )
    return caption, f"Time and memory against {len(ticks)} lengths for {', '.join(names)}."


def _growth(arrays: Arrays) -> str:
    """Returns the growth of time between the two largest lengths, in words."""
    sentences = []
    for kind in ("window", "full_causal"):
        chosen = arrays["case"] == f"{OURS}, {kind}"
        order = np.argsort(arrays["length"][chosen])[-2:]
        if len(order) == 2:
            length, seconds = (arrays[name][chosen][order] for name in ("length", "seconds"))
            name, growth = kind.replace("_", " "), f"{seconds[1] / seconds[0]:.1f}-fold"
            subject = f"From {length[0]:,} to {length[1]:,} tokens the time of our {name} attention"
            sentences.append(f"{subject} grows {growth}.")
    return " ".join(sentences)
