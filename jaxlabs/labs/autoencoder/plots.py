"""Plots of a latent space: classes, interpolations, samples and active units."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.ticker import NullFormatter

from jaxlabs.report import images, style
from jaxlabs.report.figure import ReportFigure

CLASSES = matplotlib.colormaps["tab10"].colors
MAX_CODES = 5000
NAMES = {"ae": "plain", "vae": "variational"}


def latent_map(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Plots codes `[count, 2]` colored by their `labels [count]`.

    `explained []` is the explained variance of this plane. `images`, a square number in row-major
    order, are decoded from a grid over the plane and make a second figure.
    """
    codes, labels = arrays["codes"][:MAX_CODES], arrays["labels"][:MAX_CODES]
    explained = float(arrays["explained"])
    figure = style.new_figure(4.6)
    axes = figure.subplots()
    for label in np.unique(labels):
        points = codes[labels == label]
        color = CLASSES[int(label) % len(CLASSES)]
        axes.plot(*points.T, ".", color=color, markersize=2.5, alpha=0.5, markeredgewidth=0)
        box = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": color}
        text = {"ha": "center", "va": "center", "fontsize": 8.5, "color": style.INK, "bbox": box}
        axes.text(*np.median(points, axis=0), str(label), **text)
    whole = explained > 0.999
    unit = "unit" if whole else "component"
    axes.set(xlabel=f"first {unit}", ylabel=f"second {unit}")
    of_two = "The axes are the two latent units."
    of_many = (
        f"The plane of the first two principal components, with {explained:.0%} of the variance; "
        "classes that overlap here may be separate in other directions."
    )
    figures = [
        ReportFigure(
            name="latent_map",
            title="Latent space",
            caption="Codes of held-out images, colored by class; labels at the class medians. "
            f"{of_two if whole else of_many}",
            alt=f"Codes of {len(codes)} images in {len(np.unique(labels))} colors.",
            figure=figure,
        )
    ]
    if "images" in arrays:
        figures.append(
            ReportFigure(
                name="latent_grid",
                title="Decoded grid of the latent space",
                caption=(
                    "Decoded codes on a grid over the plane, spaced by quantiles of the code "
                    "distribution."
                ),
                alt=f"A grid of {len(arrays['images'])} decoded images.",
                figure=images.grid_figure(images.tile(arrays["images"])),
            )
        )
    return figures


def interpolations(arrays: Mapping[str, np.ndarray]) -> ReportFigure:
    """Plots decoded interpolations by model, `[pairs, count, height, width(, channels)]`.

    For each pair, the rows of the models are adjacent.
    """
    names = _in_order(arrays)
    pairs, columns = arrays[names[0]].shape[:2]
    blocks = [{NAMES[name]: arrays[name][pair] for name in names} for pair in range(pairs)]
    caption = (
        "Linear interpolation between the codes of two images; the ends are the reconstructions. "
        "Not cherry-picked."
    )
    if len(names) > 1:
        caption += (
            " The plain autoencoder is not trained on codes in between, and strokes break there; "
            "the VAE is trained on noisy codes, and strokes move smoothly."
        )
    return ReportFigure(
        name="interpolations",
        title="Interpolation",
        caption=caption,
        alt=f"{pairs} rows of {columns} images for each of {len(names)} models.",
        figure=images.labeled_rows(blocks),
    )


def random_codes(arrays: Mapping[str, np.ndarray]) -> ReportFigure:
    """Plots decoded random codes by model, `[count, height, width(, channels)]`."""
    names = _in_order(arrays)
    columns = images.MAX_COLUMNS
    blocks = []
    for name in names:
        starts = range(0, len(arrays[name]) // columns * columns, columns)
        blocks.append(
            {" " * start or NAMES[name]: arrays[name][start : start + columns] for start in starts}
        )
    return ReportFigure(
        name="random_codes",
        title="Decoded random codes",
        caption=(
            "VAE: codes from the prior. Plain autoencoder: codes from a Gaussian fitted to the "
            "codes of the training images. Not cherry-picked."
        ),
        alt=f"{columns} decoded random codes in each row.",
        figure=images.labeled_rows(blocks),
    )


def latent_units(arrays: Mapping[str, np.ndarray]) -> ReportFigure:
    """Plots `variance` of the posterior mean and KL `divergence`, both `[latent]`, by unit.

    `active []` is the variance above which a unit counts as active.
    """
    variance, divergence = arrays["variance"], arrays["divergence"]
    threshold = float(arrays["active"])
    order = np.argsort(-variance)
    count = int((variance > threshold).sum())
    figure = style.new_figure(4.2)
    above, below = figure.subplots(2, sharex=True)
    rank = np.arange(1, len(order) + 1)
    above.plot(rank, np.maximum(variance[order], 1e-8), ".", color=style.BLUE)
    above.axhline(threshold, color=style.VERMILION, linewidth=1)
    above.set(yscale="log", ylabel="variance of mean")
    above.yaxis.set_major_formatter("{x:g}")
    above.yaxis.set_minor_formatter(NullFormatter())
    below.bar(rank, divergence[order], color=style.BLUE)
    below.set(ylabel="KL [nats]", xlabel="latent unit, by variance")
    below.xaxis.get_major_locator().set_params(integer=True)
    return ReportFigure(
        name="latent_units",
        title=f"{count} of {len(order)} latent units are active",
        caption=(
            "Top: variance of each unit's posterior mean over images; units above the line, "
            f"{threshold:g}, are active (Burda, Grosse and Salakhutdinov 2015). Bottom: KL "
            "divergence of the posterior from the prior per unit. The posterior of an inactive "
            "unit equals the prior (posterior collapse)."
        ),
        alt=f"Variance and KL divergence of {len(order)} units; {count} are active.",
        figure=figure,
    )


def _in_order(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Returns the names of the models in the arrays, the plain one first."""
    return [name for name in NAMES if name in arrays]
