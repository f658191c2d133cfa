"""Pen-and-paper problems: each number by this project, by a closed form, and as printed.

A file holds the problems of one theme and has `problems() -> list[Number]`; some also have
`arrays(seed)` for a picture. What is given stands in `jaxlabs.published.worked_problems`. The
project's functions run in float64; the closed forms use plain Python or numpy, none of the code
that they are compared with.
"""
