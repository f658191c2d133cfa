"""Fallback fonts: labels hold words and class names in any script."""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

LINUX = ("Noto Sans", "Source Han Sans", "WenQuanYi", "Droid Sans Fallback", "Arial Unicode MS")
MACOS = ("PingFang", "Hiragino Sans", "Apple SD Gothic Neo")  # Chinese, Japanese, Korean
WINDOWS = ("Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "Segoe UI")
PREFERRED = LINUX + MACOS + WINDOWS
"""Prefixes of font families in order of preference (sans-serif)."""


def families_with(characters: set[str]) -> list[str]:
    """Returns installed families that together cover as many of the characters as possible."""
    wanted, families = {ord(character) for character in characters}, []
    for entry in _by_preference():
        if not wanted:
            break
        if found := wanted & _code_points(entry.fname):
            wanted -= found
            families.append(entry.name)
    return families


def _by_preference() -> Iterator[Any]:
    """Yields the installed upright fonts, without Last Resort, which has one glyph per script."""
    from matplotlib.font_manager import fontManager

    _add_new_fonts()
    upright = [entry for entry in fontManager.ttflist if entry.style == "normal"]
    plain = [entry for entry in upright if not entry.name.startswith("Last Resort")]
    for prefix in PREFERRED:
        yield from (entry for entry in plain if entry.name.startswith(prefix))
    yield from (entry for entry in plain if not entry.name.startswith(PREFERRED))


@functools.cache
def _add_new_fonts() -> None:
    """Adds fonts that were installed after matplotlib cached its font list."""
    from matplotlib.font_manager import findSystemFonts, fontManager

    known = {entry.fname for entry in fontManager.ttflist}
    for path in set(findSystemFonts()) - known:
        with contextlib.suppress(OSError, RuntimeError, ValueError):  # no font, or a bitmap font
            fontManager.addfont(path)


@functools.cache
def _code_points(path: str) -> frozenset[int]:
    """Returns the code points of a scalable font; none for bitmap fonts such as emoji."""
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):  # damaged, or removed since the font list was cached
        return frozenset()
