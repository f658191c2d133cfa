"""Ctrl-C (SIGINT) and SIGTERM end a command with one line and status 128 + signal.

What a signal does depends on what the process holds:

    before a command and after it   the process ends at once, see `guard`
    in a command                    `Interrupted` is raised, see `listening`
    in training                     a request, honored after the running call, see `deferred`

A second Ctrl-C goes to whoever listened before the command: in a guarded process it ends at once.
That loses no more than a kill does, which every run folder survives.

This module imports the standard library alone, so that it can be imported before what is slow.
"""

import _thread
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)

PATIENCE = 5.0
"""Seconds after which a guarded command ends although its main thread has not seen the signal."""


class Interrupted(KeyboardInterrupt):
    """A signal ended a command.

    Attributes:
      number: which signal.
      place: where the command was, in words.
    """

    def __init__(self, number: int, place: str = ""):
        super().__init__(number, place)
        self.number, self.place = number, place

    @property
    def status(self) -> int:
        """The exit status, as a shell has it of a process that a signal ended."""
        return 128 + self.number

    def __str__(self) -> str:
        return " ".join(filter(None, ["interrupted", self.place])) + RESUME


RESUME = "; run the same command to resume"


class _Listener:
    """Who gets the signals of a running command."""

    def __init__(self):
        self.before = {number: signal.getsignal(number) for number in SIGNALS}
        self.hook_before = sys.unraisablehook
        self.requested: int | None = None
        self.deferring = False

    def hear(self, number, frame) -> None:
        """Handles a signal; one that comes again says nothing new, but for a second Ctrl-C."""
        if self.requested is None:
            self.requested = number
            signal.signal(signal.SIGINT, self.before[signal.SIGINT])
            if not self.deferring:
                raise Interrupted(number)

    def hear_again(self, lost) -> None:
        """Raises anew what was raised in a callback that cannot pass it on, such as of `gc`."""
        if issubclass(lost.exc_type, Interrupted):
            signal.signal(signal.SIGINT, self.hear)
            number, self.requested = self.requested, None
            threading.Timer(0.05, _thread.interrupt_main, [number]).start()
        else:
            self.hook_before(lost)


_listener: _Listener | None = None


def guard() -> None:
    """Lets signals end this process at once, wherever no command listens; for the process's owner.

    Python calls handlers between two lines of the main thread, which may be long in coming: a
    compilation is one line. A thread of its own sees every signal at once. It ends the process at a
    second Ctrl-C, and when a command has not seen the first signal within `PATIENCE`.
    """
    if signal.getsignal(signal.SIGTERM) is _end:
        return
    for number in SIGNALS:  # also where a shell has told a background process to ignore Ctrl-C
        signal.signal(number, _end)
    seen, told = os.pipe()
    os.set_blocking(told, False)
    signal.set_wakeup_fd(told, warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=[seen], daemon=True).start()


def _watch(seen: int) -> None:
    known = False
    while True:
        number = os.read(seen, 1)[0]
        if number not in SIGNALS:
            continue
        listener = _listener
        if listener is None or (known and number == signal.SIGINT):
            _end(number)
        elif not known and not listener.deferring:
            late = threading.Timer(PATIENCE, _end_unheard, [number])
            late.daemon = True
            late.start()
        known = True


def _end_unheard(number: int) -> None:
    if _listener is not None and _listener.requested is None:
        _end(number)


_ending = threading.Lock()
_told = False
"""Whether a command has said that it was interrupted."""


def _end(number: int, frame: object = None) -> None:
    """Ends the process with one line, whatever it is doing."""
    if _ending.acquire(blocking=False):  # else another thread is at it
        with contextlib.suppress(OSError):
            os.write(2, b"" if _told else f"{Interrupted(number)}\n".encode())
        os._exit(128 + number)


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Raises `Interrupted` in the main thread at the first signal; report it before leaving."""
    global _listener, _told
    outer, _listener = _listener, _Listener()
    listener = _listener
    sys.unraisablehook = hook = listener.hear_again
    for number in SIGNALS:
        signal.signal(number, listener.hear)
    try:
        yield
    finally:
        listener.deferring = True  # it is over
        for number, handler in listener.before.items():
            signal.signal(number, handler)
        if sys.unraisablehook is hook:  # else there is one on top of it by now
            sys.unraisablehook = listener.hook_before
        _listener, _told = outer, listener.requested is not None


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Yields a function that tells whether a signal asked for the end; nothing is raised.

    Raises:
      Interrupted: a signal came after the function was last called.
    """
    with contextlib.nullcontext() if _listener else listening():
        listener, honored = _listener, False

        def stop() -> bool:
            nonlocal honored
            honored = listener.requested is not None
            return honored

        listener.deferring = True
        try:
            yield stop
        finally:
            listener.deferring = False
        if listener.requested is not None and not honored:
            raise Interrupted(listener.requested)


def requested() -> int | None:
    """Returns the signal that has asked the running command to end, if one has."""
    return None if _listener is None else _listener.requested


@contextlib.contextmanager
def during(place: str) -> Iterator[None]:
    """Lets an interruption say where it came."""
    try:
        yield
    except Interrupted as interruption:
        place = ", ".join(filter(None, [place, interruption.place]))
        raise Interrupted(interruption.number, place) from None
