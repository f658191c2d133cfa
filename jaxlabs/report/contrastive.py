"""Pictures of encoders that share a space: who is near whom, what is found, and how sure."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.image import AxesImage

from jaxlabs.report import style
from jaxlabs.report.figure import ReportFigure

Arrays = Mapping[str, np.ndarray]

PREDICTIONS = {"classes": "the likeliest class", "pairs": "image and text are a pair"}


def similarity(arrays: Arrays) -> list[ReportFigure]:
    """Draws cosines of single pictures and descriptions, and means over all of both.

    Args:
      arrays: `images [shown, height, width, channels]` in [0, 1], `captions [shown]`, `cosines
        [shown, shown]` of images (rows) and captions, and `means [descriptions, descriptions]`.
    """
    images, captions = arrays["images"], arrays["captions"].tolist()
    figure = style.new_figure(4.6)
    axes = figure.add_subplot()
    _matrix(axes, arrays["cosines"].T)
    axes.set_yticks(range(len(captions)), captions, fontsize=8)
    axes.set_xticks([])
    for row, column in np.ndindex(*arrays["cosines"].shape):
        value = arrays["cosines"][column, row]
        color = "white" if value > 0.55 else style.INK
        axes.text(column, row, f"{value:.1f}", ha="center", va="center", fontsize=7.5, color=color)
    for place, image in enumerate(images):
        box = (place - 0.45, -1.55, 0.9, 0.9)
        inset = axes.inset_axes(box, transform=axes.transData)
        inset.imshow(image.mean(axis=-1), cmap="gray", vmin=0, vmax=1)
        inset.set_axis_off()
    return [
        ReportFigure(
            name="similarity",
            title="Pictures against descriptions",
            caption=(
                "Cosines of the first test picture of each digit with the descriptions of them "
                "all. The diagonal holds each picture's own description; what else is high is a "
                "description that says something like it."
            ),
            alt=f"A matrix of {len(captions)} pictures against {len(captions)} descriptions.",
            figure=figure,
        ),
        _mean_similarity(arrays["means"]),
    ]


def _mean_similarity(means: np.ndarray) -> ReportFigure:
    figure = style.new_figure(4.4)
    axes = figure.add_subplot()
    image = _matrix(axes, means)
    per_digit = len(means) // 10
    places = np.arange(10) * per_digit + (per_digit - 1) / 2
    for ticks in (axes.set_xticks, axes.set_yticks):
        ticks(places, range(10))
    axes.set(xlabel="descriptions, digit by digit", ylabel="pictures, by their description")
    figure.colorbar(image, ax=axes, label="mean cosine", shrink=0.8)
    own = np.eye(len(means), dtype=bool)
    digit = np.kron(np.eye(10, dtype=bool), np.ones((per_digit,) * 2, bool))
    near = [np.nanmean(means[kind]) for kind in (own, digit & ~own, ~digit)]
    return ReportFigure(
        name="mean_similarity",
        title="All pictures against all full descriptions",
        caption=(
            f"Mean cosines over the test pictures of each description. Each block is one digit; in "
            f"it the slant goes from backward to slanted, and within each slant the weight from "
            f"thin to bold. With their own description pictures have {near[0]:.2f}, with others of "
            f"the same digit {near[1]:.2f}, with those of other digits {near[2]:.2f}."
        ),
        alt=f"A matrix of {len(means)} by {len(means)} mean cosines in ten blocks.",
        figure=figure,
    )


def _matrix(axes: Axes, cosines: np.ndarray) -> AxesImage:
    style.frame_only(axes)
    return axes.imshow(cosines, cmap="Blues", vmin=-1, vmax=1, interpolation="nearest")


def retrieval(arrays: Arrays) -> list[ReportFigure]:
    """Draws the nearest pictures to some descriptions.

    Args:
      arrays: `texts [queries]`, `images [queries, shown, height, width, channels]` in [0, 1], and
        `right [queries, shown]`, whether the description is true of the picture.
    """
    texts, images, right = arrays["texts"].tolist(), arrays["images"], arrays["right"]
    rows, columns = right.shape
    figure = style.new_figure(0.84 * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    figure.get_layout_engine().set(h_pad=0.12)
    for text, of_row, pictures, flags in zip(texts, panels, images, right, strict=True):
        # Wider than its picture, which must not grow for it.
        of_row[0].text(0, 1.06, text, fontsize=8.5, transform=of_row[0].transAxes, in_layout=False)
        for axes, picture, flag in zip(of_row, pictures, flags, strict=True):
            axes.imshow(picture.mean(axis=-1), cmap="gray", vmin=0, vmax=1)
            axes.grid(False)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(
                visible=True, color=style.GREEN if flag else style.VERMILION, linewidth=2
            )
    return [
        ReportFigure(
            name="retrieval",
            title="What is found by its description",
            caption=(
                "The test pictures nearest to each text, the nearest first. A green frame: the "
                f"text is true of the picture, as of {int(right.sum())} of these {right.size}. "
                "Red: it is not."
            ),
            alt=f"{columns} pictures for each of {rows} descriptions: {'; '.join(texts)}.",
            figure=figure,
        )
    ]


def reliability(arrays: Arrays) -> list[ReportFigure]:
    """Draws how often came true what was told with so much confidence.

    Args:
      arrays: `names [kinds]`, and `confidence`, `share` and `count [kinds, bins]`.
    """
    names = arrays["names"].tolist()
    figure = style.new_figure(4.2)
    panels = figure.subplots(2, len(names), sharex=True, squeeze=False, height_ratios=(2.4, 1))
    edges = np.linspace(0, 1, arrays["count"].shape[1] + 1)
    for place, (name, (upper, lower)) in enumerate(zip(names, panels.T, strict=True)):
        told, share = arrays["confidence"][place], arrays["share"][place]
        upper.plot([0, 1], [0, 1], color=style.MUTED, linestyle="dotted", linewidth=1)
        upper.plot(told, share, color=style.BLUE, marker="o", markersize=4)
        upper.set(title=PREDICTIONS[name], xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        lower.stairs(arrays["count"][place], edges, fill=True, color=style.SKY)
        lower.set(yscale="log", xlabel="probability told", ylim=(0.8, None))
        most = int(np.log10(arrays["count"][place].max()))
        lower.set_yticks(powers := 10.0 ** np.arange(0, most + 1, 1 + most // 4))
        lower.set_yticklabels([f"{power:,.0f}" for power in powers])
        lower.minorticks_off()
    panels[0, 0].set_ylabel("share that came true")
    panels[1, 0].set_ylabel("predictions")
    return [
        ReportFigure(
            name="reliability",
            title="How sure, and how often right",
            caption=(
                "Left, the class that is likeliest by the prompts; right, every image of a batch "
                "with every text of it. On the dotted line is who is right as often as told; below "
                "it, who is too sure. Beneath: how many predictions each point stands for."
            ),
            alt="Reliability diagrams of class and pair probabilities.",
            figure=figure,
        )
    ]
