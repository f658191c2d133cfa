"""Plots of sequence models: the unrolled network, cross-attention, predicted tags."""

import itertools

import numpy as np

from jaxlabs.report import style
from jaxlabs.report.attention_plots import plot_map
from jaxlabs.report.figure import Arrays, Figure, ReportFigure, report_figure

PATTERNS = {
    "many_to_one": "Many to one",
    "aligned": "Many to many, per token",
    "encoder_decoder": "Encoder-decoder",
}
MEMORY = "memory (cross-attention from every decoder step)"
CORRECT, WRONG, CELL = style.GREEN, style.VERMILION, style.BLUE
KIND_COLORS = (style.BLUE, style.PURPLE, style.GREEN, style.ORANGE, style.SKY)
BOX_WIDTH, BOX_HEIGHT = 0.8, 0.5

LINE, PITCH = 56, 0.2
"""Maximum characters in a line of tagged words, and inches per line."""


def pattern(arrays: Arrays) -> ReportFigure:
    """Plots a network unrolled over a test sentence, from the input (bottom) to the output (top).

    `kind`, `backbone`, `bidirectional`, and the words `source`, `predicted` and `target`.
    """
    kind, backbone = str(arrays["kind"]), str(arrays["backbone"])
    source, predicted, target = (arrays[n].tolist() for n in ("source", "predicted", "target"))
    bidirectional = bool(arrays["bidirectional"])
    stacked = kind == "encoder_decoder"
    columns = max(len(source) + 1, len(predicted) + 1) if stacked else len(source) + 1
    figure = style.new_figure(4.3 if stacked else 2.5)
    axes = figure.add_subplot()
    axes.set_axis_off()
    inputs = [*source, "<eos>"]
    _row(axes, 0.0, len(inputs), backbone, bidirectional)
    _words(axes, -1.0, inputs, [style.INK] * len(inputs))
    _arrows(axes, -0.75, -0.3, range(len(inputs)))
    if kind == "aligned":
        _arrows(axes, 0.3, 0.75, range(len(source)))
        _words(axes, 1.0, predicted, _colors(predicted, target))
    elif kind == "many_to_one":
        ends = (0, len(source)) if bidirectional and backbone != "transformer" else (len(source),)
        _answer(axes, 1.0, ends, predicted[0], target[0])
    else:
        _decoder(axes, len(inputs), predicted, target, backbone)
    axes.set_xlim(-0.6, columns - 0.4)
    axes.set_ylim(-1.3, 4.7 if stacked else 1.4)
    verdict = "correct" if predicted == target else f"target “{' '.join(target)}”"
    return ReportFigure(
        name="sequence_pattern",
        title=PATTERNS[kind],
        caption=_caption(kind, backbone, bidirectional),
        alt=f"{PATTERNS[kind]}: input “{' '.join(source)}”, output “{' '.join(predicted)}”, "
        f"{verdict}.",
        figure=figure,
    )


def _caption(kind, backbone, bidirectional):
    if backbone == "transformer":
        encoder = "full self-attention" if bidirectional else "causal self-attention"
    else:
        encoder = "one cell per token" + (", in both directions" if bidirectional else "")
    outputs = {
        "many_to_one": "one output at the end",
        "aligned": "one output per token",
        "encoder_decoder": "an autoregressive decoder with cross-attention, from <sos> to <eos>",
    }
    return (
        f"A test sentence and the model's prediction: {encoder}; {outputs[kind]}. Green: correct; "
        "red: wrong."
    )


def _decoder(axes, source_length, predicted, target, backbone):
    """Plots the memory above the encoder, and the decoder with its inputs above that."""
    _arrows(axes, 0.3, 0.75, range(source_length))
    _patch(axes, (-0.35, 0.9), (source_length - 0.3, 0.3), 0.05, color=style.HAIRLINE)
    axes.text((source_length - 1) / 2, 1.05, MEMORY, ha="center", va="center", size=8)
    outputs, inputs = [*predicted, "<eos>"], ["<sos>", *predicted]
    _words(axes, 1.7, inputs, [style.MUTED] * len(inputs))
    _arrows(axes, 1.95, 2.5, range(len(inputs)))
    _row(axes, 2.85, len(outputs), backbone, False)
    _arrows(axes, 3.15, 3.6, range(len(outputs)))
    _words(axes, 3.9, outputs, _colors(outputs, [*target, "<eos>"]))


def _answer(axes, y, ends, predicted, target):
    x = sum(ends) / len(ends)
    for end in ends:
        axes.annotate("", (x, y - 0.2), (end, 0.3), arrowprops=_arrow(style.MUTED))
    text = predicted if predicted == target else f"{predicted} (target: {target})"
    side = "center" if len(ends) > 1 else "right"
    x = x if len(ends) > 1 else x + 0.4
    color = CORRECT if predicted == target else WRONG
    axes.text(x, y, text, ha=side, va="center", color=color, weight="bold", size=9)


def _row(axes, y, count, backbone, bidirectional):
    """Plots one cell per position with its state arrows, or one Transformer block."""
    if backbone == "transformer":
        _box(axes, -BOX_WIDTH / 2, y, count - 1 + BOX_WIDTH, "self-attention and feed-forward")
        return
    for position in range(count):
        _box(axes, position - BOX_WIDTH / 2, y, BOX_WIDTH, backbone.upper())
        if position:
            lift = 0.1 if bidirectional else 0.0
            ends = (position - 0.4, y + lift), (position - 0.6, y + lift)
            axes.annotate("", *ends, arrowprops=_arrow())
        if position and bidirectional:
            ends = (position - 0.6, y - lift), (position - 0.4, y - lift)
            axes.annotate("", *ends, arrowprops=_arrow(style.ORANGE))


def _box(axes, left, y, width, text):
    pad = 0.06
    size = width - 2 * pad, BOX_HEIGHT - 2 * pad
    _patch(axes, (left + pad, y - BOX_HEIGHT / 2 + pad), size, pad, facecolor=CELL, alpha=0.16)
    letters = 6.5 if width <= BOX_WIDTH else 8
    axes.text(left + width / 2, y, text, ha="center", va="center", size=letters)


def _patch(axes, corner, size, pad, **colors):
    from matplotlib.patches import FancyBboxPatch

    axes.add_patch(FancyBboxPatch(corner, *size, boxstyle=f"round,pad={pad}", **colors))


def _arrow(color=CELL):
    return {"arrowstyle": "-|>", "color": color, "lw": 0.9, "shrinkA": 0, "shrinkB": 0}


def _arrows(axes, low, high, positions):
    for position in positions:
        axes.annotate("", (position, high), (position, low), arrowprops=_arrow(style.MUTED))


def _words(axes, y, words, colors):
    longest = max(map(len, words), default=1)
    size = min(8.5, 430 / (len(words) + 1) / longest)
    for position, (word, color) in enumerate(zip(words, colors, strict=True)):
        axes.text(position, y, word, ha="center", va="center", size=size, color=color)


def _colors(predicted, target):
    pairs = itertools.zip_longest(predicted, target[: len(predicted)])
    return [CORRECT if a == b else WRONG for a, b in pairs]


@report_figure("Cross-attention")
def alignment(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots cross-attention: `maps [layers, target, source]`, words of `source` and `target`."""
    maps, source, target = arrays["maps"], arrays["source"].tolist(), arrays["target"].tolist()
    side = style.WIDTH * len(target) / len(source)
    figure.set_figheight(min(len(maps) * (0.78 * side + 0.9), 11.0))
    panels = figure.subplots(len(maps), 1, squeeze=False).ravel()
    for number, (axes, weights) in enumerate(zip(panels, maps, strict=True), start=1):
        style.frame_only(axes)
        image = plot_map(axes, weights)
        axes.set_xticks(range(len(source)), source, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(target)), target)
        axes.tick_params(labelsize=8)
        axes.set(xlabel="source", ylabel="target")
        if len(maps) > 1:
            axes.set_title(f"block {number}, mean over heads")
    bar = figure.colorbar(image, ax=panels.tolist(), label="attention weight", shrink=0.7)
    bar.outline.set_visible(False)
    return (
        "Rows: target words, as they are predicted; columns: source words; rows sum to one. A "
        "verb at the end of a target clause attends far back; adjective and noun cross. "
        "Source states are contextual, so a model may also attend next to the aligned word.",
        "Attention from “" + " ".join(target) + "” to “" + " ".join(source) + "”.",
    )


@report_figure("Predicted tags of test sentences")
def tagged_words(figure: Figure, arrays: Arrays) -> tuple[str, str]:
    """Plots sentences with colored predicted spans and marked errors.

    `splits [rows]`, and `words`, `target` and `predicted [rows, longest]`, strings, empty past the
    end of a sentence.
    """
    kinds = sorted({tag[2:] for tag in arrays["target"].ravel().tolist() if tag[:2] == "B-"})
    colors = dict(zip(kinds, itertools.cycle(KIND_COLORS)))
    columns = [arrays[name] for name in ("words", "target", "predicted")]
    rows = [[one for one in row if one[0]] for row in np.stack(columns, axis=-1).tolist()]
    lines: list[tuple[str, list]] = []
    splits = arrays["splits"].tolist()
    for number, (split, row) in enumerate(zip(splits, rows, strict=True)):
        if split not in splits[:number]:
            lines.append((f"{split}:", []))
        lines += [("", line) for line in _wrap(row)] + [("", [])]
    figure.set_figheight(0.5 + 2 * PITCH * len(lines) * 0.75)
    axes = figure.add_subplot()
    axes.set_axis_off()
    for number, (heading, line) in enumerate(lines):
        axes.text(0, -number, heading, weight="bold", size=8.5, va="center")
        _plot_line(axes, -number, line, colors)
    axes.set_xlim(-0.8, LINE)
    axes.set_ylim(-len(lines) + 0.4, 0.8)
    for kind, color in colors.items():
        axes.plot([], [], "s", color=color, alpha=0.4, label=kind)
    handles, _ = axes.get_legend_handles_labels()
    figure.legend(handles=handles, loc="outside upper center", ncols=max(len(kinds), 1))
    wrong = sum(target != predicted for row in rows for _, target, predicted in row)
    return (
        "Color: predicted entity type; a dark left edge starts a span. Sentences with "
        "errors come first: a wrong tag is underlined in red, with the gold tag below.",
        f"{len(rows)} tagged sentences with {wrong} wrong tags.",
    )


def _wrap(row):
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


def _plot_line(axes, y, line, colors):
    x = 0.0
    for word, target, predicted in line:
        size = len(word)
        color = colors.get(predicted[2:])
        if color is not None:
            sides = [x - 0.3, x + size + 0.3]
            axes.fill_between(sides, y - 0.33, y + 0.33, color=color, alpha=0.25, lw=0)
            if predicted[0] == "B":
                axes.plot([x - 0.3] * 2, [y - 0.33, y + 0.33], color=color, lw=2)
        middle = {"x": x + size / 2, "ha": "center", "va": "center"}
        axes.text(y=y, s=word, size=7.5, family="monospace", **middle)
        if target != predicted:
            axes.plot([x, x + size], [y - 0.36] * 2, color=WRONG, lw=1.5)
            axes.text(y=y - 0.56, s=target, size=5.5, color=WRONG, **middle)
        x += size + 1
