"""Pen-and-paper problems: each value by this project, in closed form, and as printed.

Each module has the problems of one theme, `problems() -> list[Value]`; some also have
`arrays(seed)` for a plot. Inputs and printed values are in `published.py`. The project's
functions run in float64. The closed forms use plain Python or numpy and none of the code that they
are compared with.
"""
