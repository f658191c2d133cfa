"""Plots of a sparse autoencoder: activations, cost terms, Gabor fits."""

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.figure import Arrays, Figure, report_figure

TERMS = {"reconstruction": "reconstruction", "weight_term": "weights", "sparsity_term": "sparsity"}


@report_figure("Activations", 2.8)
def activations(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots mean activations `mean [units]` and single activations `values [examples, units]`.

    `target []` is the sparsity target.
    """
    means, values, target = arrays["mean"], arrays["values"], float(arrays["target"])
    left, right = figure.subplots(1, 2)
    left.hist(means, bins=min(means.size, 30), color=style.BLUE)
    left.axvline(target, color=style.VERMILION, label=f"target {target:g}")
    left.set(xlabel="mean activation of a unit", ylabel="units")
    left.set_xlim(0, 1.1 * max(2 * target, means.max()))
    left.locator_params(axis="x", nbins=3)
    right.hist(values.ravel(), bins=np.linspace(0, 1, 41), color=style.BLUE)
    right.set(xlabel="activation", ylabel="count", yscale="log")
    right.yaxis.set_major_formatter("{x:g}")
    figure.legend(loc="outside upper left")
    return (
        "Left: mean activation of every hidden unit; line: sparsity target. Right: all "
        "single activations. In a sparse code most are near 0 and few are large.",
        f"Histograms of activations; means from {means.min():.3f} to {means.max():.3f}.",
    )


@report_figure("Cost terms", 3.2)
def cost_terms(figure: Figure, arrays: Arrays) -> str:
    """Curves of reconstruction, weight and sparsity terms against the step."""
    axes = figure.subplots()
    for (name, label), color in zip(TERMS.items(), style.COLORS, strict=False):
        values = arrays[name]
        axes.plot(arrays["step"] + 1, values, color=color, label=f"{label}: {values[-1]:.3g}")
    axes.set(xscale="log", yscale="log", xlabel="step + 1", ylabel="cost term")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    figure.legend(loc="outside upper left", ncols=2, handlelength=1.4)
    return (
        "At initialization the sparsity term dominates: the mean activation is 0.5. Once "
        "the activations are sparse, the reconstruction term dominates."
    )


@report_figure("Gabor fits of the filters", 3.0)
def gabors(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots Gabor fits: `explained`, `orientation` and `frequency`, each [filters]."""
    explained, angle = arrays["explained"], np.radians(arrays["orientation"])
    frequency = arrays["frequency"]
    left = figure.add_subplot(1, 2, 1)
    left.hist(explained, bins=np.linspace(0, 1, 21), color=style.BLUE)
    left.axvline(np.median(explained), color=style.VERMILION)
    left.set(xlabel="explained variance of the fit", ylabel="filters")
    left.set_title(f"median {np.median(explained):.2f}", color=style.VERMILION)
    right = figure.add_subplot(1, 2, 2, projection="polar")
    sizes = 8 + 30 * explained
    right.scatter(angle, frequency, s=sizes, color=style.BLUE, alpha=0.7, linewidths=0)
    right.set(thetamin=0, thetamax=180, rmin=0, xlabel="cycles per pixel")
    right.set_xticks(np.radians([0, 45, 90, 135, 180]))
    right.set_yticks([0.1, 0.2, 0.3])
    return (
        "A Gabor function is fitted to every filter. Left: explained variance of the fits. "
        "Right: orientation and frequency; larger points fit better. Filters of natural "
        "images cover all orientations.",
        f"Median explained variance: {np.median(explained):.2f} of {explained.size} fits.",
    )
