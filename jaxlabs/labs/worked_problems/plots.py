"""Plots of the worked problems: attention scaling, momentum, batch norm, temperature."""

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.figure import Arrays, Figure, report_figure
from jaxlabs.report.lines import LINES, band, label_x, log_axis_y, reference


@report_figure("Effect of scaling by 1/√d_k", 5.4, name="worked_scale")
def scale(figure: Figure, arrays: Arrays) -> str:
    """Variance and gradient of softmax weights against d_k, unscaled and scaled."""
    upper, lower = figure.subplots(2, sharex=True)
    dims, one_hot = arrays["dims"], float(arrays["one_hot"])
    for kind, name, line in (
        ("raw", "q · k", {"color": style.VERMILION, "marker": "o", "markersize": 4}),
        ("scaled", "q · k / √d_k", {"color": style.BLUE, "marker": "s", "markersize": 4}),
    ):
        for axes, quantity, label in ((upper, "variance", name), (lower, "gradient", None)):
            band(axes, dims, *arrays[f"{kind}_{quantity}"].T, label=label, **line)
    reference(upper, one_hot, f"one-hot, {one_hot:g}")
    upper.set(title="variance of the four weights", ylim=(0, one_hot * 1.18))
    lower.set(title="norm of the softmax Jacobian", ylim=(0, None), xscale="log", xlabel="d_k")
    label_x(lower, dims[::2])
    figure.legend(loc="outside upper left", ncols=2)
    raw, scaled = (arrays[f"{kind}_gradient"][-1, 1] for kind in ("raw", "scaled"))
    return (
        "Softmax over four random keys; medians, bands: 10th to 90th percentile. The "
        "standard deviation of q · k grows as √d_k: unscaled, the weights become one-hot "
        "and the gradient (norm of the softmax Jacobian) at "
        f"d_k = {dims[-1]} falls to {raw:.1g}; scaled, it stays at {scaled:.2f}."
    )


@report_figure("Momentum in a ravine", 6.4, name="worked_ravine")
def ravine(figure: Figure, arrays: Arrays) -> str:
    """Paths of three optimizers in a ravine, and their distances on a log axis."""
    upper, lower = figure.subplots(2, height_ratios=(1, 1.1))
    curvatures, paths = arrays["curvatures"], arrays["paths"]
    x_max, y_max = (1.15 * np.abs(paths[..., axis]).max() for axis in (0, 1))
    x, y = np.meshgrid(np.linspace(-x_max, x_max, 101), np.linspace(-y_max, y_max, 101))
    values = (curvatures[0] * x**2 + curvatures[1] * y**2) / 2
    levels = values.max() * np.array([0.01, 0.05, 0.15, 0.35, 0.7])
    upper.contour(x, y, values, levels=levels, colors=style.HAIRLINE, linewidths=1.2)
    steps = np.arange(paths.shape[1])
    settings = (arrays[name] for name in ("names", "rates", "momenta"))
    for path, line, name, rate, momentum in zip(paths, LINES, *settings, strict=False):
        line_style = line | {"markersize": 3.5, "linewidth": 1.1}
        upper.plot(*path.T, **line_style)
        label = f"{name}: rate {rate:.3g}, momentum {momentum:.3g}"
        lower.plot(steps, np.linalg.norm(path, axis=-1), label=label, **line_style)
    upper.set(title="path to the minimum at 0", xlabel="low curvature", ylabel="high curvature")
    upper.grid(False)
    lower.set(title="distance from the minimum", xlabel="step")
    best = float(arrays["momenta"][-1])
    start = np.linalg.norm(paths[0, 0])
    theory = start * np.sqrt(best) ** steps
    lower.plot(steps, theory, color=style.MUTED, linestyle="dotted", label=f"√{best:.3f} per step")
    log_axis_y(lower, theory[-1] / 3, start * 3)
    figure.legend(loc="outside lower left", fontsize=8.5)
    ends = np.linalg.norm(paths[:, -1], axis=-1)
    return (
        f"Curvatures {curvatures[0]:g} and {curvatures[1]:g}; the optimal momentum is "
        f"((√{curvatures[1] / curvatures[0]:g} − 1) / "
        f"(√{curvatures[1] / curvatures[0]:g} + 1))² = {best:.3f}. Distance after "
        f"{steps[-1]} steps: gradient descent at its best learning rate {ends[0]:.2g}, "
        f"momentum 0.9 {ends[1]:.2g} (overshoots), optimal momentum {ends[2]:.1g}. Theory "
        "(dotted): √momentum per step, up to a factor linear in the steps."
    )


@report_figure("Batch normalization of six entries", 5.6, name="worked_batch_norm")
def batch_norm(figure: Figure, arrays: Arrays) -> str:
    """Values of six entries before and after normalization."""
    training = int(arrays["training"])
    shape = arrays["values"].shape[2:]
    entries = [f"[{row}, {column}]" for row, column in np.ndindex(*shape)]
    panels = {
        "values": "as printed",
        "normalized": "normalized by the training samples' mean and variance",
    }
    for axes, (name, title) in zip(figure.subplots(2, sharex=True), panels.items(), strict=True):
        printed, corrected = (version.reshape(len(version), -1) for version in arrays[name])
        positions = np.broadcast_to(np.arange(printed.shape[1])[None], printed.shape)
        differs = printed != corrected
        if name == "normalized":
            axes.axhline(0, color=style.MUTED, linewidth=0.8)
        for part, label, color, marker, shift in (
            (slice(None, training), "training samples", style.BLUE, "o", -0.15),
            (slice(training, None), "test samples", style.VERMILION, "D", 0.0),
        ):
            shown = label if name == "values" else None
            x, y = positions[part] + shift, printed[part]
            axes.plot(x.ravel(), y.ravel(), marker, color=color, alpha=0.8, label=shown)
            other = differs[part]
            axes.plot(x[other] + 0.35, corrected[part][other], marker, color=color, mfc="none")
        axes.set_title(title)
    axes.plot([], [], "o", color=style.INK, mfc="none", label="with the misprint corrected")
    axes.set_xticks(range(len(entries)), entries)
    axes.set(xlabel="entry")
    figure.legend(loc="outside upper left", ncols=2, fontsize=8.5)
    return (
        f"Each entry is normalized by its mean and standard deviation over {training} "
        "training samples; the test samples use the same statistics, so their mean need "
        "not be 0. One printed value contradicts the printed mean and variance; hollow "
        "markers show the values with the misprint corrected."
    )


@report_figure("Effect of the temperature on negatives", 5.8, name="worked_temperature")
def temperature(figure: Figure, arrays: Arrays) -> str:
    """Gradients of four cosines against the temperature, and shares of the negatives."""
    upper, lower = figure.subplots(2, sharex=True)
    temperatures, gradients = arrays["temperatures"], arrays["gradients"]
    repulsion = gradients[:, 1:] / -gradients[:, :1]
    for key, (cosine, color) in enumerate(zip(arrays["cosines"], style.COLORS, strict=False)):
        kind = "positive" if key == 0 else "negative"
        label = f"{kind}, cosine {cosine:g}".replace("-", "−")
        upper.plot(temperatures, gradients[:, key], color=color, label=label)
        if key:
            lower.plot(temperatures, repulsion[:, key - 1], color=color)
    upper.axhline(0, color=style.MUTED, linewidth=0.8)
    upper.set(title="gradient with respect to the cosine", xscale="log")
    lower.set(title="share of each negative in the gradient", xlabel="temperature", ylim=(0, 1.02))
    label_x(lower, (0.02, 0.07, 0.2, 0.5, 1, 2))
    figure.legend(loc="outside upper left", ncols=2, fontsize=8.5)
    steepest = int(np.abs(gradients[:, 0]).argmax())
    return (
        "InfoNCE gradient (softmax − 1[positive]) / temperature of one query: negative "
        "for the positive key (attraction), positive for the others (repulsion); they sum "
        f"to 0. At low temperature the hardest negative dominates ({repulsion[0, 0]:.0%} "
        f"of the repulsion at {temperatures[0]:g}); at high temperature all share it. "
        f"Attraction is strongest at temperature {temperatures[steepest]:.2g}."
    )
