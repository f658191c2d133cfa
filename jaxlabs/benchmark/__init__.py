"""Benchmark: interleaved timing of cases, each in its own process.

`worker` is that process; `jax_cases` are our workloads; `suites` define which cases are compared;
`timing` measures them and returns rows; `format` makes the table and the report's arrays.
"""
