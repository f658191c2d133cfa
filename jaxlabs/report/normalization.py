"""Pictures of the normalization study: rates, speed, test pictures, activations, noise."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from jaxlabs.report import style
from jaxlabs.report.figure import ReportFigure
from jaxlabs.report.log_axis import log_axis_y

Arrays = Mapping[str, np.ndarray]

LOOKS = {
    "none": {"color": style.BLUE, "marker": "o"},
    "batch": {"color": style.VERMILION, "marker": "s"},
    "layer": {"color": style.GREEN, "marker": "^"},
}
NAMES = {"none": "no norm", "batch": "batch norm", "layer": "layer norm"}
SHOWN_LOSS = 0.3


def training(arrays: Arrays) -> list[ReportFigure]:
    """Draws what the trainings of all norms came to."""
    return [_rates(arrays), _speed(arrays), _generalization(arrays)]


def _rates(arrays: Arrays) -> ReportFigure:
    figure = style.new_figure(6.2)
    upper, lower = figure.subplots(2, sharex=True)
    rates = arrays["rates"]
    losses = np.nan_to_num(arrays["train_loss"], nan=np.inf)
    for row, norm in enumerate(arrays["norms"].tolist()):
        _with_spread(upper, rates, 100 * arrays["test_accuracy"][row], norm, label=NAMES[norm])
        _with_spread(lower, rates, np.clip(losses[row], 1e-6, 1e3), norm)
    upper.set(title="test pictures that are right [%]", ylim=(0, 102))
    lower.set(title="loss on training pictures [nats]", xlabel="learning rate")
    _log_x(lower)
    log_axis_y(lower, max(float(losses.min()) / 2, 1e-5), 10)
    figure.legend(loc="outside upper left", ncols=3)
    return ReportFigure(
        name="normalization_rates",
        title="What each norm makes of each learning rate",
        caption=(
            "Look how far to the right each curve stays high: a rate that is too large ends at the "
            "level of a guess (10 % with ten classes), its loss above the picture. Lines are means "
            f"over {losses.shape[-1]} seeds, bands reach from the worst to the best. "
            f"{_said(arrays, 'larger_rates')}"
        ),
        alt="Test accuracy and training loss against the learning rate, for each norm.",
        figure=figure,
    )


def _speed(arrays: Arrays) -> ReportFigure:
    figure = style.new_figure(6.4)
    rates, fastest, norms = arrays["rates"], arrays["fastest"], arrays["norms"].tolist()
    plain = fastest[norms.index("none")]
    panels = {
        "curves_at_plain_rate": f"all at {rates[plain]:.3g}, which suits the plain network best",
        "curves_at_own_rate": "each at the rate that suits it best",
    }
    for axes, (name, title) in zip(figure.subplots(2), panels.items(), strict=True):
        curves = arrays[name]
        steps = np.arange(curves.shape[-1]) + int(arrays["first_step"])
        for row, norm in enumerate(norms):
            own = "" if axes.get_subplotspec().is_first_row() else f", {rates[fastest[row]]:.3g}"
            for seed, curve in enumerate(np.nan_to_num(curves[row], nan=np.inf)):
                axes.plot(
                    steps,
                    curve,
                    color=LOOKS[norm]["color"],
                    linewidth=1,
                    alpha=0.8,
                    label=None if seed else NAMES[norm] + own,
                )
        axes.axhline(float(arrays["target"]), color=style.MUTED, linestyle="dotted", linewidth=1)
        axes.set(title=title, ylabel="training loss [nats]")
        log_axis_y(axes, max(float(np.nanmin(curves)) / 1.5, 1e-4), 5)
        axes.legend(fontsize=8.5, loc="lower left")
    axes.set(xlabel="steps")
    return ReportFigure(
        name="normalization_speed",
        title="Does it train faster?",
        caption=(
            "The loss of the batches that are trained on, one line a seed; the dotted line is the "
            f"{float(arrays['target'])} nats by which speed is measured. "
            f"{_said(arrays, 'faster_at_the_plain_rate')} {_said(arrays, 'faster_at_its_own_rate')}"
        ),
        alt="Training loss against the step for each norm, at one rate and at the best of each.",
        figure=figure,
    )


def _generalization(arrays: Arrays) -> ReportFigure:
    figure = style.new_figure(6.6)
    upper, lower = figure.subplots(2, height_ratios=(1.3, 1))
    best = arrays["best_rate"]
    for row, norm in enumerate(arrays["norms"].tolist()):
        loss, right = arrays["train_loss"][row], 100 * arrays["test_accuracy"][row]
        color = {"color": LOOKS[norm]["color"]}
        options = color | {"marker": LOOKS[norm]["marker"], "linestyle": "none"}
        shown = np.isfinite(loss) & (loss < SHOWN_LOSS)
        upper.plot(loss[shown], right[shown], **options, markerfacecolor="none", markersize=5)
        upper.plot(loss[best[row]], right[best[row]], **options, label=NAMES[norm], markersize=6)
    upper.set(title="test pictures that are right [%]", xlabel="loss on training pictures [nats]")
    _log_x(upper)
    upper.invert_xaxis()
    upper.legend(fontsize=8.5, loc="lower right")
    _with_spread(lower, arrays["groups"], 100 * arrays["group_test_accuracy"], "batch")
    lower.set(title="the same with noisier batch norms [%]")
    lower.set(xlabel="pictures that share their statistics")
    _log_x(lower, arrays["groups"])
    return ReportFigure(
        name="normalization_generalization",
        title="Does it regularize?",
        caption=(
            "Above, further right is better learned and higher up is better understood: a norm "
            "that regularizes lies above the others at the same training loss. Every mark is one "
            "training; filled ones have the rate that was chosen on held-out pictures, and what "
            f"ended above {SHOWN_LOSS} nats is left out. Below, every batch was normalized in "
            "groups, which adds noise to the statistics and nothing else. "
            + " ".join(
                _said(arrays, name)
                for name in ("better_on_test_pictures", "smaller_gap", "noise_regularizes")
            )
        ),
        alt="Test accuracy against training loss, and against the size of normalized groups.",
        figure=figure,
    )


def activation_scale(arrays: Arrays) -> list[ReportFigure]:
    """Draws the size of activations against depth, before training."""
    figure = style.new_figure(4.6)
    axes = figure.subplots()
    layers = np.arange(arrays["rms"].shape[-1]) + 1
    for row, norm in enumerate(arrays["norms"].tolist()):
        # Behind the thin lines of the layer norm, which lie where these do.
        look = {"color": LOOKS[norm]["color"], "linewidth": 6 if norm == "batch" else 1.4}
        look |= {"alpha": 0.4} if norm == "batch" else {}
        for rms, gain in zip(arrays["rms"][row], arrays["gains"], strict=True):
            label = NAMES[norm] if gain == arrays["gains"][0] else None
            axes.plot(layers, rms, label=label, **look)
            if norm == "none":
                axes.annotate(
                    f"gain {gain:g}",
                    (layers[-1], rms[-1]),
                    xytext=(-4, 4 if gain > 1 else -12),
                    textcoords="offset points",
                    ha="right",
                    fontsize=8.5,
                )
    axes.set(title="root mean square of a layer's activations", xlabel="layer")
    log_axis_y(axes, max(arrays["rms"].min(), 1e-20) / 30, arrays["rms"].max() * 30)
    figure.legend(loc="outside upper left", ncols=3)
    gains = ", ".join(f"{gain:g}" for gain in arrays["gains"])
    return [
        ReportFigure(
            name="activation_scale",
            title="Activations against depth, before training",
            caption=(
                f"The first weights are {gains} times as large as He et al. draw them. Without a "
                "norm every layer multiplies by that gain, so that only "
                "the right one survives depth; after a norm the size of the weights does not "
                "matter, and the lines of both norms lie on one another. "
                f"{_said(arrays, 'steady_scale')}"
            ),
            alt="Root mean square of activations against the layer, for each norm and gain.",
            figure=figure,
        )
    ]


def batch_noise(arrays: Arrays) -> list[ReportFigure]:
    """Draws statistics of mini-batches against those of all pictures, and what they cost."""
    figure = style.new_figure(6.2)
    upper, lower = figure.subplots(2, sharex=True)
    sizes, trained = arrays["sizes"], int(arrays["batch_size"])
    for name, color, mark in (("mean", style.BLUE, "o"), ("variance", style.ORANGE, "s")):
        error = arrays[f"{name}_error"]
        upper.plot(sizes, error.mean(axis=0), color=color, marker=mark, label=f"batch {name}")
        upper.fill_between(
            sizes, error.min(axis=0), error.max(axis=0), color=color, alpha=0.15, linewidth=0
        )
        running = arrays[f"running_{name}_error"].mean()
        label = f"running {name}"
        upper.axhline(running, color=color, linestyle="dashed", linewidth=1, label=label)
    theory = np.sqrt(1 / sizes - 1 / int(arrays["pictures"]))
    label = "√(1 / size − 1 / all)"
    upper.plot(sizes, theory, color=style.INK, linestyle="dotted", zorder=3, label=label)
    lower.plot(sizes, 100 * arrays["accuracy"], **LOOKS["batch"], label="its batch's statistics")
    running = 100 * float(arrays["running_accuracy"])
    lower.axhline(running, color=style.INK, linestyle="dashed", linewidth=1, label="running ones")
    figure.legend(handles=upper.get_lines(), loc="outside upper left", ncols=2)
    for axes in (upper, lower):
        axes.axvline(trained, color=style.MUTED, linewidth=0.8, zorder=1)
    lower.legend(fontsize=8.5, loc="lower right")
    upper.set(title="distance from the statistics of all pictures")
    log_axis_y(upper, 0.5 * min(theory.min(), *(upper.dataLim.intervaly)), upper.dataLim.y1 * 1.5)
    lower.set(title="test pictures that are right [%]", xlabel="pictures in the batch")
    _log_x(lower, sizes)
    at = int(np.argmin(np.abs(np.log(sizes / trained))))
    return [
        ReportFigure(
            name="batch_noise",
            title="Statistics of a mini-batch and of all pictures",
            caption=(
                "Above: how far means (in deviations of the unit) and variances (as a share of the "
                "true one) of random mini-batches are from those of all training pictures; bands "
                f"go over the layers. With {sizes[at]} pictures the means are off by "
                f"{arrays['mean_error'][:, at].mean():.2g}, while the running mean is off by "
                f"{arrays['running_mean_error'].mean():.2g}. The dotted line is the theory for "
                "means of pictures drawn from so many, none of them twice; after a convolution a "
                "mean goes over places as well and is better. Below: the trained network on test "
                f"pictures that are normalized by the batch that they come in; {sizes[0]} at "
                f"a time {100 * arrays['accuracy'][0]:.1f} % are right, by the running statistics "
                f"{running:.1f} %. The vertical line is the batch size of the training."
            ),
            alt="Errors of mini-batch statistics, and accuracy by them, against the batch size.",
            figure=figure,
        )
    ]


def _with_spread(
    axes: Axes, x: np.ndarray, values: np.ndarray, norm: str, label: str | None = None
) -> None:
    """Draws the means of `values [x, seed]` with a band from the least to the greatest."""
    look = LOOKS[norm]
    axes.plot(x, values.mean(axis=-1), label=label, **look)
    low, high = values.min(axis=-1), values.max(axis=-1)
    axes.fill_between(x, low, high, color=look["color"], alpha=0.15, linewidth=0)


def _log_x(axes: Axes, ticks: np.ndarray | None = None) -> None:
    """Makes the x axis logarithmic, with plain numbers at `ticks`; None: at 1, 2, 5, 10, ..."""
    axes.set_xscale("log")
    axes.xaxis.set_minor_locator(NullLocator())
    if ticks is None:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])


def _said(arrays: Arrays, name: str) -> str:
    return str(arrays[f"claim_{name}"])
