"""Signals as requests: a run ends after the call that is under way, with a checkpoint."""

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Turns Ctrl-C and SIGTERM into a request that the loop honours after the running call.

    A second Ctrl-C interrupts at once.
    """
    requested = []

    def request(number, frame):
        requested.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in handlers:
        signal.signal(number, request)
    try:
        yield lambda: bool(requested)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
