"""The functions that the command line calls.

Names are imported on first use: an exported model runs with neither torch nor MMAction2
installed.
"""

import importlib

_MODULES = {'Recognizer': 'recognizer', 'report': 'reporting', 'test': 'testing',
            'train': 'training'}

__all__ = sorted(_MODULES)


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module(f'.{_MODULES[name]}', __name__), name)
