"""Fonts for the characters of data: labels hold words and names of classes in any script."""

import contextlib
import functools
from collections.abc import Iterator

from matplotlib.font_manager import FontEntry, findSystemFonts, fontManager
from matplotlib.ft2font import FT2Font

PREFERRED = (
    *("Noto Sans", "Source Han Sans", "WenQuanYi", "Droid Sans Fallback", "Arial Unicode MS"),
    *("PingFang", "Hiragino Sans", "Apple SD Gothic Neo"),  # macOS: Chinese, Japanese, Korean
    *("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Segoe UI"),  # Windows
)
"""Beginnings of families, the first choices: plain letters, as those of the rest of a figure."""


def families_with(characters: set[str]) -> list[str]:
    """Returns installed families that together have as many of the characters as can be had."""
    wanted, families = {ord(character) for character in characters}, []
    for entry in _by_preference():
        if not wanted:
            break
        if found := wanted & _code_points(entry.fname):
            wanted -= found
            families.append(entry.name)
    return families


def _by_preference() -> Iterator[FontEntry]:
    """Yields the upright fonts that are installed, without the one that has a sign for a script."""
    _notice_new_fonts()
    upright = [entry for entry in fontManager.ttflist if entry.style == "normal"]
    plain = [entry for entry in upright if not entry.name.startswith("Last Resort")]
    for prefix in PREFERRED:
        yield from (entry for entry in plain if entry.name.startswith(prefix))
    yield from (entry for entry in plain if not entry.name.startswith(PREFERRED))


@functools.cache
def _notice_new_fonts() -> None:
    """Adds the fonts that were installed since matplotlib made its list, which it keeps."""
    known = {entry.fname for entry in fontManager.ttflist}
    for path in set(findSystemFonts()) - known:
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # no font, or a bitmap font
            fontManager.addfont(path)


@functools.cache
def _code_points(path: str) -> frozenset[int]:
    """Returns what a font has outlines for; of a font of bitmaps, such as an emoji's, nothing."""
    try:
        font = FT2Font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):  # it is damaged, or gone since the list of fonts was made
        return frozenset()
