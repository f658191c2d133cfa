"""Plots of the normalization study: learning rates, speed, generalization, activations, noise."""

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.figure import Arrays, Figure, ReportFigure, report_figure
from jaxlabs.report.lines import LINES, band, label_x, log_axis_y, reference

NAMES = {"none": "no norm", "batch": "batch norm", "layer": "layer norm"}
STYLES = dict(zip(NAMES, LINES, strict=False))
SHOWN_LOSS = 0.3
DASHED = {"linestyle": "dashed", "linewidth": 1}


def training(arrays: Arrays) -> list[ReportFigure]:
    """Plots the training results of all norms."""
    return [_rates(arrays), _speed(arrays), _generalization(arrays)]


@report_figure("Norms by learning rate", 6.2, name="normalization_rates")
def _rates(figure: Figure, arrays: Arrays) -> str:
    """Test accuracy and training loss against the learning rate, for each norm."""
    upper, lower = figure.subplots(2, sharex=True)
    rates = arrays["rates"]
    losses = np.nan_to_num(arrays["train_loss"], nan=np.inf)
    for row, norm in enumerate(arrays["norms"].tolist()):
        accuracy, line = 100 * arrays["test_accuracy"][row], STYLES[norm]
        _with_spread(upper, rates, accuracy, label=NAMES[norm], **line)
        _with_spread(lower, rates, np.clip(losses[row], 1e-6, 1e3), **line)
    upper.set(title="test accuracy [%]", ylim=(0, 102))
    lower.set(title="training loss [nats]", xlabel="learning rate")
    _log_x(lower)
    log_axis_y(lower, max(float(losses.min()) / 2, 1e-5), 10)
    figure.legend(loc="outside upper left", ncols=3)
    return (
        "A norm tolerates learning rates up to the point where its accuracy drops to chance "
        "(10% with ten classes); larger losses are above the axis. Lines: means over "
        f"{losses.shape[-1]} seeds; bands: range. {arrays['claim_larger_rates']}"
    )


@report_figure("Training speed", 6.4, name="normalization_speed")
def _speed(figure: Figure, arrays: Arrays) -> str:
    """Training loss against the step for each norm, at one rate and at the fastest of each."""
    rates, fastest, norms = arrays["rates"], arrays["fastest"], arrays["norms"].tolist()
    plain = fastest[norms.index("none")]
    panels = {
        "curves_at_plain_rate": f"learning rate {rates[plain]:.3g}, the fastest without a norm",
        "curves_at_own_rate": "each norm at its fastest learning rate",
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
    return (
        f"Training loss, one line per seed; dotted: the target of {arrays['target']} "
        f"nats that defines speed. {arrays['claim_faster_at_the_plain_rate']} "
        f"{arrays['claim_faster_at_its_own_rate']}"
    )


@report_figure("Regularization", 6.6, name="normalization_generalization")
def _generalization(figure: Figure, arrays: Arrays) -> str:
    """Test accuracy against training loss, and against the size of normalized groups."""
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
    _with_spread(lower, arrays["groups"], 100 * arrays["group_test_accuracy"], **STYLES["batch"])
    lower.set(title="test accuracy with noisier batch norm [%]", xscale="log")
    lower.set(xlabel="images per normalization group")
    label_x(lower, arrays["groups"])
    return (
        "Top: test accuracy against training loss; a norm that regularizes lies above the "
        "others at equal training loss. Each marker is one run; filled: learning rate chosen "
        f"on held-out images; runs above {SHOWN_LOSS} nats are omitted. Bottom: batch norm "
        "over smaller groups of each batch (ghost batch norm), which only adds noise to the "
        f"statistics. {arrays['claim_better_on_test_images']} {arrays['claim_smaller_gap']} "
        f"{arrays['claim_noise_regularizes']}"
    )


@report_figure("Activation scale by depth at initialization", 4.6)
def activation_scale(figure: Figure, arrays: Arrays) -> str:
    """Root mean square of activations against the layer, for each norm and gain."""
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
    return (
        f"Initial weights: He initialization times a gain of {gains}. Without a norm every "
        "layer multiplies the scale by the gain, so only gain 1 is stable in depth. A norm "
        "makes the scale independent of the weights; both norms coincide. "
        f"{arrays['claim_steady_scale']}"
    )


@report_figure("Mini-batch statistics", 6.2)
def batch_noise(figure: Figure, arrays: Arrays) -> str:
    """Errors of mini-batch statistics, and accuracy by them, against the batch size."""
    upper, lower = figure.subplots(2, sharex=True)
    sizes, trained = arrays["sizes"], int(arrays["batch_size"])
    for name, color, marker in (("mean", style.BLUE, "o"), ("variance", style.ORANGE, "s")):
        line = {"color": color, "marker": marker, "label": f"batch {name}"}
        _with_spread(upper, sizes, arrays[f"{name}_error"].T, **line)
        line = DASHED | {"color": color, "label": f"running {name}"}
        upper.axhline(arrays[f"running_{name}_error"].mean(), **line)
    theory = np.sqrt(1 / sizes - 1 / int(arrays["num_images"]))
    label = "√(1/n − 1/N)"
    upper.plot(sizes, theory, color=style.INK, linestyle="dotted", zorder=3, label=label)
    lower.plot(sizes, 100 * arrays["accuracy"], **STYLES["batch"], label="batch statistics")
    running = 100 * float(arrays["running_accuracy"])
    lower.axhline(running, color=style.INK, label="running statistics", **DASHED)
    figure.legend(handles=upper.get_lines(), loc="outside upper left", ncols=2)
    for axes in (upper, lower):
        axes.axvline(trained, color=style.MUTED, linewidth=0.8, zorder=1)
    lower.legend(fontsize=8.5, loc="lower right")
    upper.set(title="error of the statistics")
    log_axis_y(upper, 0.5 * min(theory.min(), *(upper.dataLim.intervaly)), upper.dataLim.y1 * 1.5)
    lower.set(title="test accuracy [%]", xlabel="batch size", xscale="log")
    label_x(lower, sizes)
    nearest = int(np.argmin(np.abs(np.log(sizes / trained))))
    return (
        "Top: RMS error of the mean (in standard deviations) and variance (relative) of "
        "random mini-batches against the full training set; bands: range over layers. With "
        f"{sizes[nearest]} images the error of the mean is "
        f"{arrays['mean_error'][:, nearest].mean():.2g}, of the running mean "
        f"{arrays['running_mean_error'].mean():.2g}. Dotted: theory for means of n images "
        "sampled without replacement from N; after a convolution the mean also runs over "
        "positions and has a smaller error. Bottom: test accuracy with batch statistics, "
        f"{100 * arrays['accuracy'][0]:.1f}% at batch size {sizes[0]}; with running "
        f"statistics {running:.1f}%. Vertical line: training batch size."
    )


def _with_spread(axes, x, values, **line):
    """Plots the means of `values [x, seed]` with a band from minimum to maximum."""
    band(axes, x, values.min(axis=-1), values.mean(axis=-1), values.max(axis=-1), **line)


def _log_x(axes):
    """Makes the x axis logarithmic with plain labels at 1, 2, 5, 10, ..."""
    axes.set_xscale("log")
    axes.xaxis.minorticks_off()
    axes.xaxis.get_major_locator().set_params(subs=(1, 2, 5), numticks=6)
    axes.xaxis.set_major_formatter("{x:g}")
