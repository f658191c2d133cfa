"""Plots of diffusion models: forward and reverse process, sample quality, loss by timestep."""

import numpy as np

from jaxlabs.report import images, style
from jaxlabs.report.figure import Arrays, Figure, ReportFigure, report_figure
from jaxlabs.report.lines import LINES, label_x, reference

MAX_COLUMNS, MAX_ANIMATED, SIDE = 8, 25, 5
ENLARGED = 3
"""Upscaling factor of an animation."""

HOLD, PER_FRAME = 2500, 120
"""Milliseconds of the last frame of an animation, and of each other frame."""

NAMES = {"ancestral": "ancestral", "ddim": "DDIM", "dpm_solver": "DPM-Solver++(2M)"}


@report_figure("Forward process")
def forward_process(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots `images [timesteps, count, height, width(, channels)]` in [-1, 1] by `timesteps`."""
    images.plot_rows(figure, [_rows(arrays)])
    return (
        "The same images at several timesteps of the forward process, each with one fixed "
        "noise sample. At the last timestep almost no signal is left.",
        f"Images at {len(arrays['timesteps'])} timesteps of the forward process.",
    )


@report_figure("Reverse process")
def trajectory(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots `images [timesteps, count, height, width(, channels)]` in [-1, 1] by `timesteps`."""
    images.plot_rows(figure, [_rows(arrays)])
    return (
        "Each column is one sample, from pure noise (top) to the final image (bottom). The "
        "global structure is determined first, details later.",
        f"Samples at {len(arrays['timesteps'])} timesteps of the reverse process.",
    )


def _rows(arrays):
    pairs = zip(arrays["timesteps"], arrays["images"], strict=True)
    return {f"t = {time}": _to_unit(part[:MAX_COLUMNS]) for time, part in pairs}


def _to_unit(pixels):
    return (np.clip(pixels, -1, 1) + 1) / 2


def animation(arrays: Arrays) -> ReportFigure:
    """Animates `images [frames, count, height, width(, channels)]` in [-1, 1]."""
    frames = [images.tile(_to_unit(part[:MAX_ANIMATED]), SIDE) for part in arrays["images"]]
    enlarged = np.repeat(np.repeat(np.stack(frames), ENLARGED, axis=1), ENLARGED, axis=2)
    count = min(MAX_ANIMATED, arrays["images"].shape[1])
    return ReportFigure(
        name="animation",
        title="Sampling (animation)",
        caption=f"Reverse process of {count} samples, in a loop.",
        alt=f"An animation of the reverse process of {count} images.",
        figure=style.Animation(
            frames=np.round(enlarged * 255).astype(np.uint8),
            milliseconds=[PER_FRAME] * (len(frames) - 1) + [HOLD],
        ),
    )


@report_figure("Sample quality by sampler steps", 3.6)
def fid_by_steps(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots the FID against the number of sampler steps.

    By row: `sampler [rows]`, a name, `steps`, `fid` and `count [rows]`, the number of samples;
    `real_data_count [counts]` and `real_data_fid [counts]` of training images in place of samples.
    """
    axes = figure.subplots()
    least, most = arrays["count"].min(), arrays["count"].max()
    for name, line in zip(dict.fromkeys(arrays["sampler"].tolist()), LINES, strict=False):
        of_name = arrays["sampler"] == name
        steps, distances, counts = (arrays[key][of_name] for key in ("steps", "fid", "count"))
        order = np.argsort(steps)
        label = NAMES.get(name, name)
        axes.plot(steps[order], distances[order], color=line["color"], label=label)
        for some, face in ((counts == most, line["color"]), (counts < most, "white")):
            options = {"linestyle": "none", "markerfacecolor": face, "markersize": 5.5}
            axes.plot(steps[some], distances[some], **line, **options)
    for count, fid in zip(arrays["real_data_count"], arrays["real_data_fid"], strict=True):
        reference(axes, fid, f"FID of {count:,} training images", end="right")
    axes.set(xscale="log", yscale="log", xlabel="sampler steps", ylabel="FID")
    visited = np.unique(arrays["steps"])
    label_x(axes, visited, [f"{step:,}" for step in visited])
    axes.yaxis.get_major_locator().set_params(subs=(1, 2, 5))
    axes.yaxis.minorticks_off()
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(fontsize=8.5)
    hollow = (
        f" Hollow markers: {least:,} samples, whose distance is biased upwards, as is that of as"
        " few training images."
    )
    rows = zip(arrays["sampler"], arrays["steps"], arrays["fid"], strict=True)
    return (
        f"FID: Fréchet distance between features of {most:,} samples and of the test images;"
        " lower is better. Horizontal: that of training images."
        f"{hollow if least < most else ''}",
        "FID against sampler steps: "
        + "; ".join(f"{name} {steps} steps {distance:.3g}" for name, steps, distance in rows),
    )


@report_figure("Class distribution of the samples", 2.8)
def class_histogram(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots the class distribution of the samples.

    `names [classes]`, `samples [classes]` counts, and `real [classes]` counts of the test images.
    """
    names = arrays["names"].tolist()
    shares, real = (arrays[key] / max(arrays[key].sum(), 1) for key in ("samples", "real"))
    axes = figure.subplots()
    x, outline = np.arange(len(names)), {"color": style.HAIRLINE, "edgecolor": style.MUTED}
    axes.bar(x - 0.2, 100 * shares, 0.38, label="samples", color=style.BLUE)
    axes.bar(x + 0.2, 100 * real, 0.38, label="test images", linewidth=0.6, **outline)
    axes.set_xticks(x, names)
    axes.set(xlabel="predicted class", ylabel="share [%]")
    axes.grid(False, axis="x")
    axes.set_ylim(top=axes.get_ylim()[1] * 1.2)
    axes.legend(ncols=2, loc="upper right", fontsize=8.5)
    largest = int(shares.argmax())
    return (
        f"Predicted classes of {arrays['samples'].sum():,} samples. Most frequent: "
        f"{names[largest]} ({shares[largest]:.1%}).",
        "Shares of classes: "
        + ", ".join(f"{name} {share:.1%}" for name, share in zip(names, shares, strict=True)),
    )


@report_figure("Nearest training images")
def neighbors(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots samples above their nearest training images.

    `samples` and `nearest [count, height, width(, channels)]` in [0, 1]; `distances [count]`, root
    mean squared pixel differences; and `real_distances [other count]`, the same from test images to
    their nearest training images.
    """
    count = min(MAX_COLUMNS, len(arrays["samples"]))
    rows = {"sample": arrays["samples"][:count], "nearest": arrays["nearest"][:count]}
    test_median, median = (np.median(arrays[key]) for key in ("real_distances", "distances"))
    images.plot_rows(figure, [rows])
    return (
        "Each sample above its nearest training image (pixel RMSE). Distance: median "
        f"{median:.3f}, minimum {arrays['distances'].min():.3f}; median for test images "
        f"{test_median:.3f}. A memorized image would have distance 0.",
        f"{count} samples above their nearest training images.",
    )


@report_figure("Loss by timestep", 4.6)
def loss_by_timestep(figure: Figure, arrays: Arrays) -> str:
    """Bits per dimension and squared error of the network's output against timestep.

    `timesteps [strata]`, the middle of each stratum; means over the stratum of `bits [strata]`, the
    term of the bound per dimension and timestep, and of `squared_error [strata]` of the output.
    """
    upper, lower = panels = figure.subplots(2, 1, sharex=True)
    shown = arrays["timesteps"] + 1  # log(0) is undefined
    upper.plot(shown, arrays["bits"], ".-", color=style.BLUE, markersize=5)
    upper.set(ylabel="bits per dimension\nand timestep")
    lower.plot(shown, arrays["squared_error"], ".-", color=style.VERMILION, markersize=5)
    lower.set(ylabel="squared error", xlabel="t + 1")
    for axes in panels:
        axes.set(yscale="log", xscale="log")
        axes.yaxis.get_major_locator().set_params(subs=(1, 3), numticks=9)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
    lower.xaxis.set_major_formatter("{x:,g}")
    figure.align_ylabels(panels)
    return (
        "Top: terms of the variational bound by timestep; small t, the last reverse steps, "
        "contribute most. Bottom: mean squared error of the network's output, which is "
        "largest where little noise is left."
    )
