"""Plots of contrastive models: cosine similarity, retrieval, and calibration."""

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.figure import Arrays, Figure, ReportFigure, report_figure
from jaxlabs.report.lines import write_values

PREDICTIONS = {"classes": "top-1 class", "pairs": "image-text pair"}


def similarity(arrays: Arrays) -> list[ReportFigure]:
    """Plots cosine similarities of single images and captions, and means over all of them.

    `images [shown, height, width, channels]` in [0, 1], `captions [shown]`, `cosines [shown,
    shown]` of images (rows) and captions, and `means [descriptions, descriptions]`.
    """
    return [_similarity(arrays), _mean_similarity(arrays["means"])]


@report_figure("Image-text similarity", 4.6, name="similarity")
def _similarity(figure, arrays):
    cosines, captions = arrays["cosines"].T, arrays["captions"].tolist()
    axes = figure.add_subplot()
    _matrix(axes, cosines)
    axes.set_yticks(range(len(captions)), captions, fontsize=8)
    axes.set_xticks([])
    write_values(axes, np.vectorize("{:.1f}".format)(cosines), cosines > 0.55, fontsize=7.5)
    for index, image in enumerate(arrays["images"]):
        box = (index - 0.45, -1.55, 0.9, 0.9)
        inset = axes.inset_axes(box, transform=axes.transData)
        inset.imshow(image.mean(axis=-1), cmap="gray", vmin=0, vmax=1)
        inset.set_axis_off()
    return (
        "Cosine similarity of the first test image of each digit (columns) and the "
        "captions of these images (rows). The diagonal holds the matching pairs.",
        f"A matrix of {len(captions)} images against {len(captions)} captions.",
    )


@report_figure("Mean similarity by caption", 4.4, name="mean_similarity")
def _mean_similarity(figure, means):
    axes = figure.add_subplot()
    image = _matrix(axes, means)
    per_digit = len(means) // 10
    centers = np.arange(10) * per_digit + (per_digit - 1) / 2
    for ticks in (axes.set_xticks, axes.set_yticks):
        ticks(centers, range(10))
    axes.set(xlabel="captions by digit", ylabel="images by caption")
    figure.colorbar(image, ax=axes, label="mean cosine", shrink=0.8)
    own = np.eye(len(means), dtype=bool)
    digit = np.kron(np.eye(10, dtype=bool), np.ones((per_digit,) * 2, bool))
    near = [np.nanmean(means[kind]) for kind in (own, digit & ~own, ~digit)]
    return (
        f"Mean cosine similarity over the test images of each full caption. Each block is one "
        f"digit, ordered by slant (backward to slanted), then by weight (thin to bold). Mean "
        f"for the matching caption {near[0]:.2f}, for others of the same digit {near[1]:.2f}, "
        f"for other digits {near[2]:.2f}.",
        f"A matrix of {len(means)} by {len(means)} mean cosines in ten blocks.",
    )


def _matrix(axes, cosines):
    style.frame_only(axes)
    return axes.imshow(cosines, cmap="Blues", vmin=-1, vmax=1, interpolation="nearest")


@report_figure("Text-to-image retrieval")
def retrieval(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots the images nearest to some texts.

    `texts [queries]`, `images [queries, shown, height, width, channels]` in [0, 1], and `relevant
    [queries, shown]`, whether the text is true of the image.
    """
    texts, images, relevant = arrays["texts"].tolist(), arrays["images"], arrays["relevant"]
    rows, columns = relevant.shape
    figure.set_figheight(0.84 * rows)
    panels = figure.subplots(rows, columns, squeeze=False)
    figure.get_layout_engine().set(h_pad=0.12)
    for text, row_axes, row_images, flags in zip(texts, panels, images, relevant, strict=True):
        # The text is wider than the image, which must keep its size.
        options = {"transform": row_axes[0].transAxes, "in_layout": False}
        row_axes[0].text(0, 1.06, text, fontsize=8.5, **options)
        for axes, image, flag in zip(row_axes, row_images, flags, strict=True):
            axes.imshow(image.mean(axis=-1), cmap="gray", vmin=0, vmax=1)
            axes.grid(False)
            axes.set(xticks=[], yticks=[])
            color = style.GREEN if flag else style.VERMILION
            axes.spines[:].set(visible=True, color=color, linewidth=2)
    return (
        "The nearest test images to each text, in order of cosine similarity. Green frame: "
        f"correct ({int(relevant.sum())} of {relevant.size}); red: incorrect.",
        f"{columns} images for each of {rows} texts: {'; '.join(texts)}.",
    )


@report_figure("Calibration", 4.2)
def reliability(figure: Figure, arrays: Arrays) -> str:
    """Reliability diagrams of class and pair probabilities.

    `names [kinds]`, and `confidence`, `accuracy` and `count [kinds, bins]`.
    """
    names = arrays["names"].tolist()
    panels = figure.subplots(2, len(names), sharex=True, squeeze=False, height_ratios=(2.4, 1))
    edges = np.linspace(0, 1, arrays["count"].shape[1] + 1)
    for index, (name, (upper, lower)) in enumerate(zip(names, panels.T, strict=True)):
        confidence, accuracy = arrays["confidence"][index], arrays["accuracy"][index]
        upper.plot([0, 1], [0, 1], color=style.MUTED, linestyle="dotted", linewidth=1)
        upper.plot(confidence, accuracy, color=style.BLUE, marker="o", markersize=4)
        upper.set(title=PREDICTIONS[name], xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        lower.stairs(arrays["count"][index], edges, fill=True, color=style.SKY)
        lower.set(yscale="log", xlabel="predicted probability", ylim=(0.8, None))
        decades = int(np.log10(arrays["count"][index].max()))
        lower.set_yticks(10.0 ** np.arange(0, decades + 1, 1 + decades // 4))
        lower.yaxis.set_major_formatter("{x:,.0f}")
        lower.minorticks_off()
    panels[0, 0].set_ylabel("accuracy")
    panels[1, 0].set_ylabel("predictions")
    return (
        "Left: probability of the top-1 class under the prompts. Right: probability of "
        "every image-text pair in a batch. Dotted: perfect calibration; points below it"
        " are overconfident. Bottom: number of predictions per bin."
    )
