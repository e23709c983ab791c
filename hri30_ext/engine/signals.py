"""Signals that ask a run to stop."""

import os
import signal
import threading
import time
from collections.abc import Callable

#: From Ctrl-C, from a system or Slurm before it kills, and from a closed terminal.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class StopRequest:
    """Within this context, notes the first signal that asks to stop; a second one kills.

    Signals that were ignored, as under nohup, stay ignored. Has no effect outside of the
    main thread, the only one that can have handlers.

    Args:
        on_signal (Callable): Is called with the number of the first signal; may raise.

    Attributes:
        number (int): Number of the signal, 0 before one came.
    """

    def __init__(self, on_signal: Callable[[int], None]) -> None:
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

    def _handle(self, number: int, frame) -> None:
        if self.number:
            # One signal can arrive twice: sent to every process of a job, and passed on.
            if time.monotonic() - self._asked_at > 2:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            return
        self.number, self._asked_at = number, time.monotonic()
        self._on_signal(number)


def leave_signals_to_parent(initialize: Callable | None, worker: int) -> None:
    """Makes a loading process ignore signals that are not from its training process.

    Ctrl-C, Slurm and systemd signal every process of a job. A loading process that ended
    would end the training before it is saved.

    Args:
        initialize (Callable, optional): The previous ``worker_init_fn``.
        worker (int): Number of the process.
    """
    parent = os.getppid()

    def wait() -> None:
        # Only sigwaitinfo tells who has sent a signal.
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
