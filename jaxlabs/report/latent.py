"""Pictures of a latent space: where classes lie, what stands between codes, what units carry."""

from collections.abc import Mapping

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from jaxlabs.report import images, style
from jaxlabs.report.curves import plain
from jaxlabs.report.figure import ReportFigure

CLASSES = matplotlib.colormaps["tab10"].colors
MAX_CODES = 5000
NAMES = {"ae": "plain", "vae": "variational"}


def latent_map(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws codes `[count, 2]` colored by their `labels [count]`.

    `explained []` is the share of the codes' variance that lies in this plane. With `pictures`, a
    square number of them in reading order, a second picture shows what is decoded all over it.
    """
    codes, labels = arrays["codes"][:MAX_CODES], arrays["labels"][:MAX_CODES]
    explained = float(arrays["explained"])
    figure = style.new_figure(4.6)
    axes = figure.subplots()
    for label in np.unique(labels):
        points = codes[labels == label]
        color = CLASSES[int(label) % len(CLASSES)]
        axes.plot(*points.T, ".", color=color, markersize=2.5, alpha=0.5, markeredgewidth=0)
        _write_label(axes, str(label), np.median(points, axis=0), color)
    whole = explained > 0.999
    unit = "unit" if whole else "component"
    axes.set(xlabel=f"first {unit}", ylabel=f"second {unit}")
    of_two = "The two latent units are the axes."
    of_many = (
        f"The plane is that in which the codes vary most; {explained:.0%} of their variance lies "
        "in it, so that classes which overlap here may be apart elsewhere."
    )
    drawn = [
        ReportFigure(
            name="latent_map",
            title="Where the classes lie",
            caption="Each dot is the code of a picture that was not trained on; a number stands at "
            f"the middle of its class. {of_two if whole else of_many}",
            alt=f"Codes of {len(codes)} pictures in {len(np.unique(labels))} colors.",
            figure=figure,
        )
    ]
    if "pictures" in arrays:
        drawn.append(
            ReportFigure(
                name="latent_pictures",
                title="What is decoded all over the map",
                caption=(
                    "Decoded codes from the left to the right and from the bottom to the top of "
                    "the map, as densely as codes are expected there."
                ),
                alt=f"{len(arrays['pictures'])} decoded pictures in a square.",
                figure=images.whole_sheet(images.tile(arrays["pictures"])),
            )
        )
    return drawn


def _write_label(axes: Axes, text: str, place: np.ndarray, color: tuple[float, ...]) -> None:
    box = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": color}
    axes.text(*place, text, ha="center", va="center", fontsize=8.5, color=style.INK, bbox=box)


def interpolations(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws pictures on lines between codes, by model `[pairs, count, height, width(, channels)]`.

    Of each pair, the models' lines stand one above the other.
    """
    names = _in_order(arrays)
    pairs, columns = arrays[names[0]].shape[:2]
    blocks = [{NAMES[name]: arrays[name][pair] for name in names} for pair in range(pairs)]
    caption = (
        "Every line goes from one picture's code to another's; at its ends stand the two "
        "reconstructions, none chosen."
    )
    if len(names) > 1:
        caption += (
            " The plain autoencoder has never been asked about the codes between them, where its "
            "strokes break; the variational one had to make every code near those of its pictures "
            "mean something, and its strokes move."
        )
    return [
        ReportFigure(
            name="interpolations",
            title="Between two codes",
            caption=caption,
            alt=f"{pairs} lines of {columns} pictures for each of {len(names)} models.",
            figure=images.labeled_rows(blocks),
        )
    ]


def random_codes(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws what models decode random codes to, by model `[count, height, width(, channels)]`."""
    names = _in_order(arrays)
    columns = images.MAX_COLUMNS
    blocks = []
    for name in names:
        starts = range(0, len(arrays[name]) // columns * columns, columns)
        blocks.append(
            {" " * start or NAMES[name]: arrays[name][start : start + columns] for start in starts}
        )
    return [
        ReportFigure(
            name="random_codes",
            title="Random codes",
            caption=(
                "Variational: codes from the prior. Plain: there is no prior, so the codes come "
                "from the normal distribution with the mean and the covariance of the training "
                "pictures' codes. None is chosen."
            ),
            alt=f"{columns} decoded random codes in each row.",
            figure=images.labeled_rows(blocks),
        )
    ]


def latent_units(arrays: Mapping[str, np.ndarray]) -> list[ReportFigure]:
    """Draws what each latent unit carries: `variance` of its mean and `divergence`, both [latent].

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
    above.set(yscale="log", ylabel="variance of the mean")
    above.yaxis.set_major_formatter(FuncFormatter(plain))
    above.yaxis.set_minor_formatter(NullFormatter())
    below.bar(rank, divergence[order], color=style.BLUE)
    below.set(ylabel="divergence [nats]", xlabel="latent unit, by variance")
    below.xaxis.get_major_locator().set_params(integer=True)
    return [
        ReportFigure(
            name="latent_units",
            title=f"{count} of {len(order)} latent units are active",
            caption=(
                "Above: how much the mean of each unit's posterior varies from picture to picture; "
                f"units above the line, {threshold:g}, count as active (Burda, Grosse and "
                "Salakhutdinov 2015). Below: the divergence from the prior that a unit costs per "
                "picture, which is what it tells about it. Units that are not active were "
                "switched off: their posterior is the prior."
            ),
            alt=f"Variance and divergence of {len(order)} units; {count} are active.",
            figure=figure,
        )
    ]


def _in_order(arrays: Mapping[str, np.ndarray]) -> list[str]:
    """Returns the names of the models that there are, the plain one first."""
    return [name for name in NAMES if name in arrays]
