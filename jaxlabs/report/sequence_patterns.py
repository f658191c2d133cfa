"""Pictures of sequence models: the unrolled pattern, an alignment, predicted tags."""

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from jaxlabs.report import style
from jaxlabs.report.attention_plots import plot_map
from jaxlabs.report.figure import ReportFigure

Arrays = Mapping[str, np.ndarray]

PATTERNS = {
    "many_to_one": "Many to one",
    "aligned": "Many to many, word by word",
    "encoder_decoder": "Many to many through a memory",
}
MEMORY = "memory: every step of the decoder looks at all of it"
RIGHT, WRONG, CELL = style.GREEN, style.VERMILION, style.BLUE
KIND_COLORS = (style.BLUE, style.PURPLE, style.GREEN, style.ORANGE, style.SKY)
BOX_WIDTH, BOX_HEIGHT = 0.8, 0.5

# Lines of tags: the most characters in one, and inches from line to line.
LINE, PITCH = 56, 0.2


def pattern(arrays: Arrays) -> list[ReportFigure]:
    """Draws a network unrolled over a test sentence, from the words below to the answer above.

    Args:
      arrays: `kind`, `backbone`, `bidirectional`, and the words `source`, `predicted` and `right`.
    """
    kind, backbone = str(arrays["kind"]), str(arrays["backbone"])
    source, predicted, right = (arrays[n].tolist() for n in ("source", "predicted", "right"))
    bidirectional = bool(arrays["bidirectional"])
    stacked = kind == "encoder_decoder"
    columns = max(len(source) + 1, len(predicted) + 1) if stacked else len(source) + 1
    figure = style.new_figure(4.3 if stacked else 2.5)
    axes = figure.add_subplot()
    axes.set_axis_off()
    marks = [*source, "<eos>"]
    _row(axes, 0.0, len(marks), backbone, bidirectional)
    _words(axes, -1.0, marks, [style.INK] * len(marks))
    _arrows(axes, -0.75, -0.3, range(len(marks)))
    if kind == "aligned":
        _arrows(axes, 0.3, 0.75, range(len(source)))
        _words(axes, 1.0, predicted, _colors(predicted, right))
    elif kind == "many_to_one":
        ends = (0, len(source)) if bidirectional and backbone != "transformer" else (len(source),)
        _answer(axes, 1.0, ends, predicted[0], right[0])
    else:
        _decoder(axes, len(marks), predicted, right, backbone)
    axes.set_xlim(-0.6, columns - 0.4)
    axes.set_ylim(-1.3, 4.7 if stacked else 1.4)
    told = " ".join(predicted)
    verdict = "as it should" if predicted == right else f"and should say: {' '.join(right)}"
    return [
        ReportFigure(
            name="sequence_pattern",
            title=PATTERNS[kind],
            caption=_caption(kind, backbone, bidirectional),
            alt=f"{PATTERNS[kind]}: the network reads “{' '.join(source)}”, says “{told}”, "
            f"{verdict}.",
            figure=figure,
        )
    ]


def _caption(kind: str, backbone: str, bidirectional: bool) -> str:
    ways = (
        "Every place attends to every other"
        if backbone == "transformer"
        else "The same cell reads word after word and hands its state on"
    )
    if bidirectional and backbone != "transformer":
        ways += ", once in each direction"
    if not bidirectional and backbone == "transformer":
        ways = "Every place attends to those before it"
    ends = {
        "many_to_one": "one answer is read off at the end",
        "aligned": "every word gets its own answer",
        "encoder_decoder": "the decoder looks back at what was read and is fed each word that it "
        "has written, from <sos> to <eos>",
    }
    words = "A test sentence and the model's own answer"
    return f"{words}. {ways}; {ends[kind]}. Green is right, red is wrong."


def _decoder(axes: Axes, read: int, predicted: list[str], right: list[str], backbone: str) -> None:
    """Draws the memory on top of the encoder, and above it the decoder with what it reads."""
    _arrows(axes, 0.3, 0.75, range(read))
    memory = FancyBboxPatch(
        (-0.35, 0.9), read - 0.3, 0.3, boxstyle="round,pad=0.05", color=style.HAIRLINE
    )
    axes.add_patch(memory)
    axes.text((read - 1) / 2, 1.05, MEMORY, ha="center", va="center", size=8)
    written, fed = [*predicted, "<eos>"], ["<sos>", *predicted]
    _words(axes, 1.7, fed, [style.MUTED] * len(fed))
    _arrows(axes, 1.95, 2.5, range(len(fed)))
    _row(axes, 2.85, len(written), backbone, False)
    _arrows(axes, 3.15, 3.6, range(len(written)))
    _words(axes, 3.9, written, _colors(written, [*right, "<eos>"]))


def _answer(axes: Axes, y: float, ends: Sequence[int], predicted: str, right: str) -> None:
    x = sum(ends) / len(ends)
    for end in ends:
        axes.annotate("", (x, y - 0.2), (end, 0.3), arrowprops=_arrow(style.MUTED))
    text = predicted if predicted == right else f"{predicted} (right: {right})"
    side = "center" if len(ends) > 1 else "right"
    x = x if len(ends) > 1 else x + 0.4
    color = RIGHT if predicted == right else WRONG
    axes.text(x, y, text, ha=side, va="center", color=color, weight="bold", size=9)


def _row(axes: Axes, y: float, count: int, backbone: str, bidirectional: bool) -> None:
    """Draws one cell a place with what it hands on, or one block that has all places at once."""
    if backbone == "transformer":
        _box(
            axes,
            -BOX_WIDTH / 2,
            y,
            count - 1 + BOX_WIDTH,
            "attention and feed-forward, all at once",
        )
        return
    for place in range(count):
        _box(axes, place - BOX_WIDTH / 2, y, BOX_WIDTH, backbone.upper())
        if place:
            lift = 0.1 if bidirectional else 0.0
            axes.annotate("", (place - 0.4, y + lift), (place - 0.6, y + lift), arrowprops=_arrow())
        if place and bidirectional:
            ends = (place - 0.6, y - lift), (place - 0.4, y - lift)
            axes.annotate("", *ends, arrowprops=_arrow(style.ORANGE))


def _box(axes: Axes, left: float, y: float, width: float, text: str) -> None:
    pad = 0.06
    size = width - 2 * pad, BOX_HEIGHT - 2 * pad
    box = f"round,pad={pad}"
    corner = left + pad, y - BOX_HEIGHT / 2 + pad
    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle=box, facecolor=CELL, alpha=0.16))
    letters = 6.5 if width <= BOX_WIDTH else 8
    axes.text(left + width / 2, y, text, ha="center", va="center", size=letters)


def _arrow(color: str = CELL) -> dict:
    return {"arrowstyle": "-|>", "color": color, "lw": 0.9, "shrinkA": 0, "shrinkB": 0}


def _arrows(axes: Axes, low: float, high: float, places: Sequence[int]) -> None:
    for place in places:
        axes.annotate("", (place, high), (place, low), arrowprops=_arrow(style.MUTED))


def _words(axes: Axes, y: float, words: list[str], colors: list[str]) -> None:
    longest = max(map(len, words), default=1)
    size = min(8.5, 430 / (len(words) + 1) / longest)
    for place, (word, color) in enumerate(zip(words, colors, strict=True)):
        axes.text(place, y, word, ha="center", va="center", size=size, color=color)


def _colors(predicted: list[str], right: list[str]) -> list[str]:
    padded = [*right, *[None] * len(predicted)]
    return [RIGHT if a == b else WRONG for a, b in zip(predicted, padded, strict=False)]


def alignment(arrays: Arrays) -> list[ReportFigure]:
    """Draws cross-attention: `maps [layers, target, source]`, words of `source` and `target`."""
    maps, source, target = arrays["maps"], arrays["source"].tolist(), arrays["target"].tolist()
    side = style.WIDTH * len(target) / len(source)
    figure = style.new_figure(min(len(maps) * (0.78 * side + 0.9), 11.0))
    panels = figure.subplots(len(maps), 1, squeeze=False).ravel()
    for number, (axes, weights) in enumerate(zip(panels, maps, strict=True), start=1):
        style.frame_only(axes)
        image = plot_map(axes, weights)
        axes.set_xticks(range(len(source)), source, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(target)), target)
        axes.tick_params(labelsize=8)
        axes.set(xlabel="read", ylabel="written")
        if len(maps) > 1:
            axes.set_title(f"block {number}, mean over heads")
    bar = figure.colorbar(image, ax=panels.tolist(), label="attention weight", shrink=0.7)
    bar.outline.set_visible(False)
    return [
        ReportFigure(
            name="alignment",
            title="Which source words each word is written from",
            caption=(
                "Each row is a word of the translation as it is about to be written, each column a "
                "word that was read; rows sum to one. A verb that the translation puts at the end "
                "of its clause looks far back, and adjective and noun cross. What stands in a "
                "column knows of its neighbors, so that a model may also look beside the word."
            ),
            alt="Attention from “" + " ".join(target) + "” to “" + " ".join(source) + "”.",
            figure=figure,
        )
    ]


def tagged_words(arrays: Arrays) -> list[ReportFigure]:
    """Draws sentences with their predicted spans in color and errors marked.

    Args:
      arrays: `splits [rows]`, and `words`, `right` and `predicted` `[rows, longest]`, strings,
        empty past the end of a sentence.
    """
    kinds = sorted({tag[2:] for tag in arrays["right"].ravel().tolist() if tag[:2] == "B-"})
    colors = dict(zip(kinds, itertools.cycle(KIND_COLORS)))
    rows = [
        [triple for triple in zip(*columns, strict=True) if triple[0]]
        for columns in zip(
            *(arrays[name].tolist() for name in ("words", "right", "predicted")), strict=True
        )
    ]
    lines: list[tuple[str, list]] = []
    splits = arrays["splits"].tolist()
    for number, (split, row) in enumerate(zip(splits, rows, strict=True)):
        if split not in splits[:number]:
            lines.append((f"{split}:", []))
        lines += [("", line) for line in _broken(row)] + [("", [])]
    figure = style.new_figure(0.5 + 2 * PITCH * len(lines) * 0.75)
    axes = figure.add_subplot()
    axes.set_axis_off()
    for number, (heading, line) in enumerate(lines):
        axes.text(0, -number, heading, weight="bold", size=8.5, va="center")
        _plot_line(axes, -number, line, colors)
    axes.set_xlim(-0.8, LINE)
    axes.set_ylim(-len(lines) + 0.4, 0.8)
    handles = [
        axes.plot([], [], "s", color=color, alpha=0.4, label=kind)[0]
        for kind, color in colors.items()
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=max(len(kinds), 1))
    wrong = sum(right != predicted for row in rows for _, right, predicted in row)
    return [
        ReportFigure(
            name="tagged_words",
            title="Tags of test sentences",
            caption=(
                "Colored words are names of the kind that the model takes them for; a darker edge "
                "on the left begins a span. Sentences with errors come first: a wrong word is "
                "underlined in red, with the right tag below it."
            ),
            alt=f"{len(rows)} sentences with tagged names, {wrong} words of them tagged wrongly.",
            figure=figure,
        )
    ]


def _broken(row: list) -> list[list]:
    """Breaks a sentence into lines of at most LINE characters."""
    lines, used = [[]], 0
    for triple in row:
        size = len(triple[0]) + 1
        if used + size > LINE and lines[-1]:
            lines.append([])
            used = 0
        lines[-1].append(triple)
        used += size
    return lines


def _plot_line(axes: Axes, y: float, line: list, colors: Mapping[str, str]) -> None:
    x = 0.0
    for word, right, predicted in line:
        size = len(word)
        color = colors.get(predicted[2:])
        if color is not None:
            axes.fill_between(
                [x - 0.3, x + size + 0.3], y - 0.33, y + 0.33, color=color, alpha=0.25, lw=0
            )
            if predicted[0] == "B":
                axes.plot([x - 0.3] * 2, [y - 0.33, y + 0.33], color=color, lw=2)
        axes.text(x + size / 2, y, word, ha="center", va="center", size=7.5, family="monospace")
        if right != predicted:
            axes.plot([x, x + size], [y - 0.36] * 2, color=WRONG, lw=1.5)
            axes.text(
                x + size / 2, y - 0.56, right, ha="center", va="center", size=5.5, color=WRONG
            )
        x += size + 1
