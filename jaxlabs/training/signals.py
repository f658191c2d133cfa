"""Ctrl-C (SIGINT) and SIGTERM end a command with one line and status 128 + signal.

The effect of a signal depends on the state of the process:

    before and after a command      the process exits at once, see `guard`
    in a command                    `Interrupted` is raised, see `listening`
    in training                     training stops after the running chunk, see `deferred`

A second Ctrl-C is handled by the previous handler: a guarded process exits at once. Run folders
survive this, as they survive a kill.

This module imports only the standard library, so that it can be imported before slow packages.
"""

import _thread
import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator

SIGNALS = (signal.SIGINT, signal.SIGTERM)

PATIENCE = 5.0
"""Seconds after which a guarded process exits if its main thread has not handled the signal."""


class Interrupted(KeyboardInterrupt):
    """A signal ended a command.

    Attributes:
      number: the signal.
      phase: what was interrupted, in words.
    """

    def __init__(self, number: int, phase: str = ""):
        super().__init__(number, phase)
        self.number, self.phase = number, phase

    @property
    def status(self) -> int:
        """The exit status of a process that was ended by the signal, as in a shell."""
        return 128 + self.number

    def __str__(self) -> str:
        return " ".join(filter(None, ["interrupted", self.phase])) + RESUME


RESUME = "; run the same command to resume"


class _Listener:
    """The handler of the signals of a running command."""

    def __init__(self):
        self.before = {number: signal.getsignal(number) for number in SIGNALS}
        self.hook_before = sys.unraisablehook
        self.requested: int | None = None
        self.deferring = False

    def handle(self, number, frame) -> None:
        """Handles the first signal; further ones are ignored, except for a second Ctrl-C."""
        if self.requested is None:
            self.requested = number
            signal.signal(signal.SIGINT, self.before[signal.SIGINT])
            if not self.deferring:
                raise Interrupted(number)

    def on_unraisable(self, lost) -> None:
        """Raises again an interruption that was raised in a callback, such as of `gc`, and lost."""
        if issubclass(lost.exc_type, Interrupted):
            signal.signal(signal.SIGINT, self.handle)
            number, self.requested = self.requested, None
            threading.Timer(0.05, _thread.interrupt_main, [number]).start()
        else:
            self.hook_before(lost)


_listener: _Listener | None = None


def guard() -> None:
    """Makes signals end this process at once while no command handles them.

    Python runs signal handlers between bytecode instructions of the main thread, so a compilation
    delays them. A separate thread receives every signal at once. It ends the process at a second
    Ctrl-C, and when the command has not handled the first signal within `PATIENCE`.
    """
    if signal.getsignal(signal.SIGTERM) is _end:
        return
    for number in SIGNALS:  # also in a background process, for which the shell ignores Ctrl-C
        signal.signal(number, _end)
    read_end, write_end = socket.socketpair()  # a pipe blocks on Windows
    write_end.setblocking(False)
    signal.set_wakeup_fd(write_end.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_watch, args=[read_end, write_end], daemon=True).start()


def _watch(read_end: socket.socket, write_end: socket.socket) -> None:
    """Reads the signals; it keeps both ends open."""
    known = False
    while True:
        number = read_end.recv(1)[0]
        if number not in SIGNALS:
            continue
        listener = _listener
        if listener is None or (known and number == signal.SIGINT):
            _end(number)
        elif not known and not listener.deferring:
            late = threading.Timer(PATIENCE, _end_unhandled, [number])
            late.daemon = True
            late.start()
        known = True


def _end_unhandled(number: int) -> None:
    if _listener is not None and _listener.requested is None:
        _end(number)


_ending = threading.Lock()
_reported = False
"""Whether a command has reported its interruption."""


def _end(number: int, frame: object = None) -> None:
    """Ends the process with one line, in any state."""
    if _ending.acquire(blocking=False):  # else another thread does it
        with contextlib.suppress(OSError):
            os.write(2, b"" if _reported else f"{Interrupted(number)}\n".encode())
        os._exit(128 + number)


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Raises `Interrupted` in the main thread at the first signal; report it inside the context.

    In another thread it does nothing: Python handles signals in the main thread alone.
    """
    global _listener, _reported
    if not _in_main_thread():
        yield
        return
    outer, _listener = _listener, _Listener()
    listener = _listener
    sys.unraisablehook = hook = listener.on_unraisable
    for number in SIGNALS:
        signal.signal(number, listener.handle)
    try:
        yield
    finally:
        listener.deferring = True  # do not raise any more
        for number, handler in listener.before.items():
            signal.signal(number, handler)
        if sys.unraisablehook is hook:  # else another hook wraps it
            sys.unraisablehook = listener.hook_before
        _listener, _reported = outer, listener.requested is not None


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], bool]]:
    """Yields a function that returns whether a signal has been received; nothing is raised.

    Raises:
      Interrupted: a signal came after the function was last called.
    """
    if not _in_main_thread():
        yield lambda: False
        return
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
    """Returns the signal received by the running command, or None."""
    return _listener.requested if _listener and _in_main_thread() else None


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def during(phase: str) -> Iterator[None]:
    """Adds the phase to the message of an interruption."""
    try:
        yield
    except Interrupted as interruption:
        phase = ", ".join(filter(None, [phase, interruption.phase]))
        raise Interrupted(interruption.number, phase) from None
