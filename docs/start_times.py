"""Time of every lab's command from its process to its first training step.

`python docs/start_times.py` prints the table of performance.md for this machine and version of jax:
without the compilation cache, and the second start with it. The difference is compilation.
"""

import argparse
import statistics
import time

import jax

from jaxlabs import labs
from jaxlabs.benchmark.command_start import start
from jaxlabs.runner.lab import Lab


def main() -> None:
    """Prints a row per lab."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--data_dir")
    arguments = parser.parse_args()
    print(f"jax {jax.__version__}\n\n| lab | no cache | second start | difference |")
    print("|---|---|---|---|")
    for name in labs.built_in():
        if isinstance(labs.load(name), Lab):
            without, second = (
                seconds(name, arguments.data_dir, arguments.repeats, cached)
                for cached in (False, True)
            )
            row = f"`{name}`", *(f"{t:.1f} s" for t in (without, second, without - second))
            print(f"| {' | '.join(row)} |", flush=True)


def seconds(lab: str, data_dir: str | None, repeats: int, cached: bool) -> float:
    """Returns the median time of starting a lab; with a cache, of the starts after the first."""
    work = start(lab, "quick", "cpu", data_dir, cached)
    measured = []
    try:
        for _ in range(repeats + cached):
            begin = time.perf_counter()
            work.run()
            measured.append(time.perf_counter() - begin)
    finally:
        work.extra_metrics()
    return statistics.median(measured[cached:])


if __name__ == "__main__":
    main()
