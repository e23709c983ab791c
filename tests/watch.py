"""Watches what a call does to the machine: processes, network, files that are written."""

import contextlib
import os
import sys
from collections.abc import Iterator

_PREFIXES = ('os.system', 'os.exec', 'os.posix_spawn', 'os.spawn', 'os.fork', 'subprocess.',
             'socket.', 'ctypes.', 'pty.', 'urllib.', 'ftplib.', 'smtplib.',
             'webbrowser.', 'os.remove', 'os.rename', 'os.rmdir', 'os.mkdir', 'os.link',
             'os.symlink', 'os.truncate', 'shutil.', 'pickle.')
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

_seen: list[str] | None = None
_installed = False


def _hook(event: str, arguments: tuple) -> None:
    if _seen is None:
        return
    if event == 'open':
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        if flags & _WRITING and arguments[0] != os.devnull:
            _seen.append(f'open for writing: {arguments[0]!r}')
    elif event.startswith(_PREFIXES):
        _seen.append(f'{event} {arguments!r:.200}')


@contextlib.contextmanager
def watch() -> Iterator[list[str]]:
    """Yields a list that gets what Python's audit events say was done within.

    Processes that are started, sockets, files that are opened for writing, removed, renamed
    or made, unpickling by the standard library.
    """
    global _seen, _installed
    if not _installed:  # such a hook cannot be taken off
        sys.addaudithook(_hook)
        _installed = True
    _seen = seen = []
    try:
        yield seen
    finally:
        _seen = None
