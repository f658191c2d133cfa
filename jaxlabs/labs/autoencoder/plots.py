"""Plots of a latent space: classes, interpolations, samples and active units."""

import numpy as np

from jaxlabs.report import images, style
from jaxlabs.report.figure import Arrays, Figure, ReportFigure, report_figure

MAX_CODES = 5000
NAMES = {"ae": "plain", "vae": "variational"}


def latent_map(arrays: Arrays) -> list[ReportFigure]:
    """Plots codes `[count, 2]` colored by their `labels [count]`.

    `explained []` is the explained variance of this plane. `images`, a square number in row-major
    order, are decoded from a grid over the plane and make a second figure.
    """
    return [_codes(arrays), *([_grid(arrays)] if "images" in arrays else [])]


@report_figure("Latent space", 4.6, name="latent_map")
def _codes(figure, arrays):
    codes, labels = arrays["codes"][:MAX_CODES], arrays["labels"][:MAX_CODES]
    explained = float(arrays["explained"])
    axes, classes = figure.subplots(), np.unique(labels)
    for label in classes:
        points = codes[labels == label]
        color = f"C{int(label) % 10}"
        axes.plot(*points.T, ".", color=color, markersize=2.5, alpha=0.5, markeredgewidth=0)
        box = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": color}
        text = {"ha": "center", "va": "center", "fontsize": 8.5, "color": style.INK, "bbox": box}
        axes.text(*np.median(points, axis=0), str(label), **text)
    whole = explained == 1.0  # not a projection of more dimensions
    unit = "unit" if whole else "component"
    axes.set(xlabel=f"first {unit}", ylabel=f"second {unit}")
    several = np.any(codes[:, 1])
    of_two = f"The {'axes are the two latent units' if several else 'axis is the latent unit'}."
    of_many = (
        f"The plane of the first two principal components, with {explained:.0%} of the variance; "
        "classes that overlap here may be separate in other directions."
    )
    return (
        "Codes of held-out images, colored by class; labels at the class medians. "
        f"{of_two if whole else of_many}",
        f"Codes of {len(codes)} images in {len(classes)} colors.",
    )


@report_figure("Decoded grid of the latent space", name="latent_grid")
def _grid(figure, arrays):
    images.plot_grid(figure, arrays["images"])
    return (
        "Decoded codes on a grid over the plane, spaced by quantiles of the code distribution.",
        f"A grid of {len(arrays['images'])} decoded images.",
    )


@report_figure("Interpolation")
def interpolations(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots decoded interpolations by model, `[pairs, count, height, width(, channels)]`.

    For each pair, the rows of the models are adjacent.
    """
    names = [name for name in NAMES if name in arrays]
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
    images.plot_rows(figure, blocks)
    return caption, f"{pairs} rows of {columns} images for each of {len(names)} models."


@report_figure("Decoded random codes")
def random_codes(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots decoded random codes by model, `[count, height, width(, channels)]`."""
    columns, blocks = images.MAX_COLUMNS, []
    for name in [name for name in NAMES if name in arrays]:
        whole = arrays[name][: len(arrays[name]) // columns * columns]
        rows = np.split(whole, len(whole) // columns)
        labels = [" " * columns * row or NAMES[name] for row in range(len(rows))]
        blocks.append(dict(zip(labels, rows, strict=True)))
    images.plot_rows(figure, blocks)
    return (
        "VAE: codes from the prior. Plain autoencoder: codes from a Gaussian fitted to the "
        "codes of the training images. Not cherry-picked.",
        f"{columns} decoded random codes in each row.",
    )


def latent_units(arrays: Arrays) -> ReportFigure:
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
    above.yaxis.set_minor_formatter("")
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
