"""Rivals timed in turns, each in a process of its own.

`worker` is that process and `work` what ours does in it; `cases` and `suites` say who meets whom
in what; `turns` times them and makes the rows, `table` the table and what the page draws.
"""
