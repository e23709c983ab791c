"""Signals that ask a run to end."""

import os
import signal
import threading
import time
from collections.abc import Callable

#: Ctrl-C, what systems send before they kill, what Slurm is asked to send before, and what
#: a terminal sends when it is closed.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class StopRequest:
    """Takes notice of the first signal that asks to end; a later one ends at once.

    A context: outside of it, signals do what they did before. Those that are ignored, as
    nohup has it, stay so. Without effect in other threads than the main one, which alone
    can have handlers.

    Args:
        on_signal (Callable): Called with the number of the first signal, within its
            handler; may raise.

    Attributes:
        number (int): Of the signal that came, 0 while none did.
    """

    def __init__(self, on_signal: Callable[[int], None] = lambda number: None) -> None:
        self.number = 0
        self._asked_at = 0.0
        self._on_signal = on_signal
        self._previous: dict = {}

    def __enter__(self) -> 'StopRequest':
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._handle)
                              for number in SIGNALS
                              if signal.getsignal(number) != signal.SIG_IGN}
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _handle(self, number: int, frame) -> None:
        if self.number:
            # The same one may come twice: to every process of the job, and passed on.
            if time.monotonic() - self._asked_at > 2:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        self.number, self._asked_at = number, time.monotonic()
        self._on_signal(number)


def leave_signals_to_parent(initialize: Callable | None, worker: int) -> None:
    """Prepares a loading process: the training process alone answers to signals.

    And it alone ends this one, with SIGTERM.

    Ctrl-C, Slurm and systemd send them to every process of a job. A loading process that
    ended would take the training with it before it is saved.

    Args:
        initialize (Callable, optional): The ``worker_init_fn`` that there was.
        worker (int): Number of the process.
    """
    parent = os.getppid()

    def wait() -> None:
        # Only this tells who has sent a signal.
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
            pass
        os._exit(0)

    for number in SIGNALS:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=wait, daemon=True).start()
    if initialize is not None:
        initialize(worker)
