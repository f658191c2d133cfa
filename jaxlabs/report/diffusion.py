"""Pictures of diffusion: from a digit to noise and back, and what the samples are worth."""

from collections.abc import Mapping

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes

from jaxlabs.report import images, style
from jaxlabs.report.figure import Animation, ReportFigure

MAX_COLUMNS, MAX_ANIMATED, SIDE = 8, 25, 5
ENLARGED = 3
"""Screen pixels on a side of a picture's pixel in an animation."""

HOLD, PER_FRAME = 2500, 120
"""Milliseconds that the last frame of an animation stands, and the others."""

MARKERS = "osD^vP"
NAMES = {"ancestral": "ancestral", "ddim": "DDIM", "dpm_solver": "DPM-Solver++(2M)"}


def forward_process(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws `pictures [times, count, height, width(, channels)]` in [-1, 1] at `times [times]`."""
    return [
        ReportFigure(
            name="forward_process",
            title="From picture to noise",
            caption=(
                "The same pictures at several times of the forward process, each with the same "
                "noise throughout. At the last time next to nothing is left of them."
            ),
            alt=f"Pictures that turn into noise in {len(arrays['times'])} stages.",
            figure=images.labeled_rows([_rows(arrays)]),
        )
    ]


def trajectory(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws `pictures [times, count, height, width(, channels)]` in [-1, 1] at `times [times]`."""
    return [
        ReportFigure(
            name="trajectory",
            title="From noise to picture",
            caption=(
                "Each column is one sample on its way, from pure noise at the top to the finished "
                "picture. First it is settled what is shown, then how it looks in detail."
            ),
            alt=f"Samples at {len(arrays['times'])} times of the reverse process.",
            figure=images.labeled_rows([_rows(arrays)]),
        )
    ]


def _rows(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    pairs = zip(arrays["times"], arrays["pictures"], strict=True)
    return {f"t = {time}": _gray(part[:MAX_COLUMNS]) for time, part in pairs}


def _gray(pictures: np.ndarray) -> np.ndarray:
    return (np.clip(pictures, -1, 1) + 1) / 2


def animation(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws `pictures [frames, count, height, width(, channels)]` in [-1, 1], one by one."""
    frames = [images.tile(_gray(part[:MAX_ANIMATED]), SIDE) for part in arrays["pictures"]]
    enlarged = np.repeat(np.repeat(np.stack(frames), ENLARGED, axis=1), ENLARGED, axis=2)
    count = min(MAX_ANIMATED, arrays["pictures"].shape[1])
    return [
        ReportFigure(
            name="animation",
            title="Samples being made",
            caption=f"{count} samples on their way from noise, over and over.",
            alt=f"An animation of {count} pictures that come out of noise.",
            figure=Animation(
                frames=np.round(enlarged * 255).astype(np.uint8),
                milliseconds=[PER_FRAME] * (len(frames) - 1) + [HOLD],
            ),
        )
    ]


def sampler_quality(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws the Frechet distance against the steps of samplers.

    Args:
      arrays: by row `sampler [rows]`, a name, `steps [rows]`, `frechet [rows]` and `count [rows]`
        samples; `floor_count [floors]` and `floor_frechet [floors]` of real pictures in the role of
        samples.
    """
    figure = style.new_figure(3.6)
    axes = figure.subplots()
    most = arrays["count"].max()
    for place, name in enumerate(dict.fromkeys(arrays["sampler"].tolist())):
        of_name = arrays["sampler"] == name
        steps, distances, counts = (arrays[key][of_name] for key in ("steps", "frechet", "count"))
        color = style.COLORS[place % len(style.COLORS)]
        order = np.argsort(steps)
        label = NAMES.get(name, name)
        axes.plot(steps[order], distances[order], "-", color=color, label=label)
        for full in (True, False):
            some = (counts == most) == full
            filling = {"color": color} if full else {"mfc": "white", "mec": color}
            marker = MARKERS[place % len(MARKERS)]
            axes.plot(steps[some], distances[some], marker, **filling, markersize=5.5)
    _plot_floors(axes, arrays)
    axes.set(xscale="log", yscale="log", xlabel="sampler steps", ylabel="Frechet distance")
    visited = np.unique(arrays["steps"])
    axes.set_xticks(visited, [f"{step:,}" for step in visited])
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(matplotlib.ticker.NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(fontsize=8.5)
    fewer = arrays["count"].min() < most
    told = f" Hollow marks are of {arrays['count'].min():,} samples, which costs less and"
    told += " lies higher for that reason alone, as its floor does."
    return [
        ReportFigure(
            name="sampler_quality",
            title="What a step is worth",
            caption=(
                f"Frechet distance between features of {most:,} samples and those of the test "
                "pictures, against the steps of the sampler; less is better. The floor is what as "
                f"many real pictures get that were trained on.{told if fewer else ''}"
            ),
            alt="Frechet distance against sampler steps: "
            + "; ".join(
                f"{name} {steps} steps {distance:.3g}"
                for name, steps, distance in zip(
                    arrays["sampler"], arrays["steps"], arrays["frechet"], strict=True
                )
            ),
            figure=figure,
        )
    ]


def _plot_floors(axes: Axes, arrays: Mapping[str, np.ndarray]) -> None:
    most = max(arrays["floor_count"])
    for count, floor in zip(arrays["floor_count"], arrays["floor_frechet"], strict=True):
        axes.axhline(floor, color=style.MUTED, linestyle="--" if count == most else ":", lw=1.2)
        axes.annotate(
            f"floor, {count:,} real pictures",
            (1, floor),
            xycoords=("axes fraction", "data"),
            xytext=(0, 3),
            textcoords="offset points",
            ha="right",
            fontsize=8.5,
            color=style.MUTED,
        )


def class_histogram(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws how samples fall into classes.

    Args:
      arrays: `names [classes]`, `samples [classes]` counts, and `real [classes]` counts of the
        test pictures.
    """
    figure = style.new_figure(2.8)
    axes = figure.subplots()
    places = np.arange(len(arrays["names"]))
    for offset, key, label, color in (
        (-0.2, "samples", "samples", style.BLUE),
        (0.2, "real", "test pictures", style.HAIRLINE),
    ):
        shares = 100 * arrays[key] / max(arrays[key].sum(), 1)
        edge = style.MUTED if key == "real" else color
        axes.bar(places + offset, shares, 0.38, label=label, color=color, edgecolor=edge, lw=0.6)
    axes.set_xticks(places, arrays["names"].tolist())
    axes.set(xlabel="class, as the classifier sees it", ylabel="share in %")
    axes.grid(False, axis="x")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.2)
    axes.legend(ncols=2, loc="upper right", fontsize=8.5)
    shares = arrays["samples"] / max(arrays["samples"].sum(), 1)
    largest = int(shares.argmax())
    return [
        ReportFigure(
            name="class_histogram",
            title="Which classes the samples are of",
            caption=(
                f"{arrays['samples'].sum():,} samples, sorted by the classifier. The commonest is "
                f"{arrays['names'][largest]}, with {shares[largest]:.1%}."
            ),
            alt="Shares of classes: "
            + ", ".join(
                f"{name} {share:.1%}" for name, share in zip(arrays["names"], shares, strict=True)
            ),
            figure=figure,
        )
    ]


def neighbors(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws samples above the training pictures that are nearest to them.

    Args:
      arrays: `samples` and `nearest [count, height, width(, channels)]` in [0, 1]; `distances
        [count]`, the root of the mean squared difference in shares of full ink; and
        `real_distances [other count]`, those of test pictures to their nearest training pictures.
    """
    count = min(MAX_COLUMNS, len(arrays["samples"]))
    rows = {"sample": arrays["samples"][:count], "nearest": arrays["nearest"][:count]}
    usual, ours = (np.median(arrays[key]) for key in ("real_distances", "distances"))
    return [
        ReportFigure(
            name="neighbors",
            title="Are samples copies?",
            caption=(
                "Each sample stands above the training picture that is nearest to it, pixel by "
                f"pixel. Their distance is {ours:.3f} in the median, the least "
                f"{arrays['distances'].min():.3f}; test pictures, which cannot be copies, are "
                f"{usual:.3f} from their nearest in the median. Copies would be at 0."
            ),
            alt=f"{count} samples above their nearest training pictures.",
            figure=images.labeled_rows([rows]),
        )
    ]


def loss_by_time(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws what each time costs.

    Args:
      arrays: `times [strata]`, the middle of each; `bits [strata]` per dimension that a time in it
        adds to the bound, and `squared_error [strata]` of the network's output, both means.
    """
    figure = style.new_figure(4.6)
    panels = figure.subplots(2, 1, sharex=True)
    shown = arrays["times"] + 1  # the logarithm of time 0 is nowhere
    for axes, key, label, color in zip(
        panels,
        ("bits", "squared_error"),
        ("bits per dimension\nand time", "squared error"),
        (style.BLUE, style.VERMILION),
        strict=True,
    ):
        axes.plot(shown, arrays[key], ".-", color=color, markersize=5)
        axes.set(yscale="log", ylabel=label, xscale="log")
        axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 3), numticks=9))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    panels[1].set_xlabel("time t + 1")
    panels[1].xaxis.set_major_formatter("{x:,g}")
    figure.align_ylabels(panels)
    return [
        ReportFigure(
            name="loss_by_time",
            title="What each time costs",
            caption=(
                "Above, what the times add to the bound on the bits of a picture; nearly all comes "
                "from the last steps before the finished picture. Below, the mean squared error of "
                "the network's output: where hardly any noise is left, it is hard to tell."
            ),
            alt="Bits per dimension and squared error of the network's output against time.",
            figure=figure,
        )
    ]
