"""Plots of the normalization study: learning rates, speed, generalization, activations, noise."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator

from jaxlabs.report import style
from jaxlabs.report.figure import ReportFigure
from jaxlabs.report.lines import LINES, band, label_x, reference
from jaxlabs.report.log_axis import log_axis_y

Arrays = Mapping[str, np.ndarray]

NAMES = {"none": "no norm", "batch": "batch norm", "layer": "layer norm"}
STYLES = dict(zip(NAMES, LINES, strict=False))
SHOWN_LOSS = 0.3


def training(arrays: Arrays) -> list[ReportFigure]:
    """Plots the training results of all norms."""
    return [_rates(arrays), _speed(arrays), _generalization(arrays)]


def _rates(arrays: Arrays) -> ReportFigure:
    figure = style.new_figure(6.2)
    upper, lower = figure.subplots(2, sharex=True)
    rates = arrays["rates"]
    losses = np.nan_to_num(arrays["train_loss"], nan=np.inf)
    for row, norm in enumerate(arrays["norms"].tolist()):
        _with_spread(upper, rates, 100 * arrays["test_accuracy"][row], norm, label=NAMES[norm])
        _with_spread(lower, rates, np.clip(losses[row], 1e-6, 1e3), norm)
    upper.set(title="test accuracy [%]", ylim=(0, 102))
    lower.set(title="training loss [nats]", xlabel="learning rate")
    _log_x(lower)
    log_axis_y(lower, max(float(losses.min()) / 2, 1e-5), 10)
    figure.legend(loc="outside upper left", ncols=3)
    return ReportFigure(
        name="normalization_rates",
        title="Norms by learning rate",
        caption=(
            "A norm tolerates learning rates up to the point where its accuracy drops to chance "
            "(10% with ten classes); larger losses are above the axis. Lines: means over "
            f"{losses.shape[-1]} seeds; bands: range. {_claim(arrays, 'larger_rates')}"
        ),
        alt="Test accuracy and training loss against the learning rate, for each norm.",
        figure=figure,
    )


def _speed(arrays: Arrays) -> ReportFigure:
    figure = style.new_figure(6.4)
    rates, fastest, norms = arrays["rates"], arrays["fastest"], arrays["norms"].tolist()
    plain = fastest[norms.index("none")]
    panels = {
        "curves_at_plain_rate": f"learning rate {rates[plain]:.3g}, the best without a norm",
        "curves_at_own_rate": "each norm at its best learning rate",
    }
    for axes, (name, title) in zip(figure.subplots(2), panels.items(), strict=True):
        curves = arrays[name]
        steps = np.arange(curves.shape[-1]) + int(arrays["first_step"])
        for row, norm in enumerate(norms):
            own = "" if axes.get_subplotspec().is_first_row() else f", {rates[fastest[row]]:.3g}"
            for seed, curve in enumerate(np.nan_to_num(curves[row], nan=np.inf)):
                label = None if seed else NAMES[norm] + own
                color = STYLES[norm]["color"]
                axes.plot(steps, curve, color=color, linewidth=1, alpha=0.8, label=label)
        reference(axes, float(arrays["target"]))
        axes.set(title=title, ylabel="training loss [nats]")
        log_axis_y(axes, max(float(np.nanmin(curves)) / 1.5, 1e-4), 5)
        axes.legend(fontsize=8.5, loc="lower left")
    axes.set(xlabel="step")
    return ReportFigure(
        name="normalization_speed",
        title="Training speed",
        caption=(
            f"Training loss, one line per seed; dotted: the target of {float(arrays['target'])} "
            f"nats that defines speed. {_claim(arrays, 'faster_at_the_plain_rate')} "
            f"{_claim(arrays, 'faster_at_its_own_rate')}"
        ),
        alt="Training loss against the step for each norm, at one rate and at the best of each.",
        figure=figure,
    )


def _generalization(arrays: Arrays) -> ReportFigure:
    figure = style.new_figure(6.6)
    upper, lower = figure.subplots(2, height_ratios=(1.3, 1))
    best = arrays["best_rate"]
    for row, norm in enumerate(arrays["norms"].tolist()):
        loss, accuracy = arrays["train_loss"][row], 100 * arrays["test_accuracy"][row]
        options = STYLES[norm] | {"linestyle": "none"}
        shown = np.isfinite(loss) & (loss < SHOWN_LOSS)
        upper.plot(loss[shown], accuracy[shown], **options, markerfacecolor="none", markersize=5)
        upper.plot(loss[best[row]], accuracy[best[row]], **options, label=NAMES[norm], markersize=6)
    upper.set(title="test accuracy [%]", xlabel="training loss [nats]")
    _log_x(upper)
    upper.invert_xaxis()
    upper.legend(fontsize=8.5, loc="lower right")
    _with_spread(lower, arrays["groups"], 100 * arrays["group_test_accuracy"], "batch")
    lower.set(title="test accuracy with noisier batch norm [%]", xscale="log")
    lower.set(xlabel="images per normalization group")
    label_x(lower, arrays["groups"])
    return ReportFigure(
        name="normalization_generalization",
        title="Regularization",
        caption=(
            "Top: test accuracy against training loss; a norm that regularizes lies above the "
            "others at equal training loss. Each marker is one run; filled: learning rate chosen "
            f"on held-out images; runs above {SHOWN_LOSS} nats are omitted. Bottom: batch norm "
            "over smaller groups of each batch (ghost batch norm), which only adds noise to the "
            "statistics. "
            + " ".join(
                _claim(arrays, name)
                for name in ("better_on_test_images", "smaller_gap", "noise_regularizes")
            )
        ),
        alt="Test accuracy against training loss, and against the size of normalized groups.",
        figure=figure,
    )


def activation_scale(arrays: Arrays) -> ReportFigure:
    """Plots the RMS of activations against depth at initialization."""
    figure = style.new_figure(4.6)
    axes = figure.subplots()
    layers = np.arange(arrays["rms"].shape[-1]) + 1
    for row, norm in enumerate(arrays["norms"].tolist()):
        # Thick and behind the layer norm, whose lines coincide.
        line_style = {"color": STYLES[norm]["color"], "linewidth": 6 if norm == "batch" else 1.4}
        line_style |= {"alpha": 0.4} if norm == "batch" else {}
        for rms, gain in zip(arrays["rms"][row], arrays["gains"], strict=True):
            label = NAMES[norm] if gain == arrays["gains"][0] else None
            axes.plot(layers, rms, label=label, **line_style)
            if norm == "none":
                end, shift = (layers[-1], rms[-1]), (-4, 4 if gain > 1 else -12)
                options = {"textcoords": "offset points", "ha": "right", "fontsize": 8.5}
                axes.annotate(f"gain {gain:g}", end, xytext=shift, **options)
    axes.set(title="RMS of activations", xlabel="layer")
    log_axis_y(axes, max(arrays["rms"].min(), 1e-20) / 30, arrays["rms"].max() * 30)
    figure.legend(loc="outside upper left", ncols=3)
    gains = ", ".join(f"{gain:g}" for gain in arrays["gains"])
    return ReportFigure(
        name="activation_scale",
        title="Activation scale by depth at initialization",
        caption=(
            f"Initial weights: He initialization times a gain of {gains}. Without a norm every "
            "layer multiplies the scale by the gain, so only gain 1 is stable in depth. A norm "
            "makes the scale independent of the weights; both norms coincide. "
            f"{_claim(arrays, 'steady_scale')}"
        ),
        alt="Root mean square of activations against the layer, for each norm and gain.",
        figure=figure,
    )


def batch_noise(arrays: Arrays) -> ReportFigure:
    """Plots errors of mini-batch statistics, and test accuracy with them, against batch size."""
    figure = style.new_figure(6.2)
    upper, lower = figure.subplots(2, sharex=True)
    sizes, trained = arrays["sizes"], int(arrays["batch_size"])
    for name, color, marker in (("mean", style.BLUE, "o"), ("variance", style.ORANGE, "s")):
        error = arrays[f"{name}_error"]
        spread = error.mean(axis=0), error.min(axis=0), error.max(axis=0)
        band(upper, sizes, *spread, color=color, marker=marker, label=f"batch {name}")
        running = arrays[f"running_{name}_error"].mean()
        label = f"running {name}"
        upper.axhline(running, color=color, linestyle="dashed", linewidth=1, label=label)
    theory = np.sqrt(1 / sizes - 1 / int(arrays["num_images"]))
    label = "√(1/n − 1/N)"
    upper.plot(sizes, theory, color=style.INK, linestyle="dotted", zorder=3, label=label)
    lower.plot(sizes, 100 * arrays["accuracy"], **STYLES["batch"], label="batch statistics")
    running = 100 * float(arrays["running_accuracy"])
    lower.axhline(
        running, color=style.INK, linestyle="dashed", linewidth=1, label="running statistics"
    )
    figure.legend(handles=upper.get_lines(), loc="outside upper left", ncols=2)
    for axes in (upper, lower):
        axes.axvline(trained, color=style.MUTED, linewidth=0.8, zorder=1)
    lower.legend(fontsize=8.5, loc="lower right")
    upper.set(title="error of the statistics")
    log_axis_y(upper, 0.5 * min(theory.min(), *(upper.dataLim.intervaly)), upper.dataLim.y1 * 1.5)
    lower.set(title="test accuracy [%]", xlabel="batch size", xscale="log")
    label_x(lower, sizes)
    nearest = int(np.argmin(np.abs(np.log(sizes / trained))))
    return ReportFigure(
        name="batch_noise",
        title="Mini-batch statistics",
        caption=(
            "Top: RMS error of the mean (in standard deviations) and variance (relative) of "
            "random mini-batches against the full training set; bands: range over layers. With "
            f"{sizes[nearest]} images the error of the mean is "
            f"{arrays['mean_error'][:, nearest].mean():.2g}, of the running mean "
            f"{arrays['running_mean_error'].mean():.2g}. Dotted: theory for means of n images "
            "sampled without replacement from N; after a convolution the mean also runs over "
            "positions and has a smaller error. Bottom: test accuracy with batch statistics, "
            f"{100 * arrays['accuracy'][0]:.1f}% at batch size {sizes[0]}; with running "
            f"statistics {running:.1f}%. Vertical line: training batch size."
        ),
        alt="Errors of mini-batch statistics, and accuracy by them, against the batch size.",
        figure=figure,
    )


def _with_spread(
    axes: Axes, x: np.ndarray, values: np.ndarray, norm: str, label: str | None = None
) -> None:
    """Plots the means of `values [x, seed]` with a band from minimum to maximum."""
    spread = values.mean(axis=-1), values.min(axis=-1), values.max(axis=-1)
    band(axes, x, *spread, label=label, **STYLES[norm])


def _log_x(axes: Axes) -> None:
    """Makes the x axis logarithmic with plain labels at 1, 2, 5, 10, ..."""
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
    axes.xaxis.set_major_formatter("{x:g}")


def _claim(arrays: Arrays, name: str) -> str:
    return str(arrays[f"claim_{name}"])
