"""What the Python tools share: arguments, device, and messages for mistakes.

Imports nothing but the standard library: ``--help`` answers at once, and the
device is chosen before torch is imported.
"""

import argparse
import os
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

# The package is found whether or not it is installed.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


def add_runtime_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what training and testing share."""
    parser.add_argument('--device', default=None, metavar='cpu|cuda[:N]',
                        help='where to run; by default CUDA where there is one')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='settings that beat HRI30_ROOT and the config, such as '
                             'data_root=PATH batch_size=8 split.val_groups=[1]')
    parser.add_argument('--launcher', choices=('none', 'pytorch'), default='none',
                        help=argparse.SUPPRESS)
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help=argparse.SUPPRESS)


def choose_device(device: str | None) -> None:
    """Makes only the asked device visible; call it before torch is imported.

    Args:
        device (str, optional): ``cpu``, ``cuda`` or ``cuda:N``. Exits with a
            message on another form, or where CUDA is asked for and not there.
    """
    if device is None:
        return
    match = re.fullmatch(r'cpu|cuda(?::(\d+))?', device)
    if match is None:
        fail(f'--device {device}: expected cpu, cuda or cuda:N.')
    if device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
        return
    if match.group(1) is not None:
        os.environ['CUDA_VISIBLE_DEVICES'] = match.group(1)
    import torch
    if not torch.cuda.is_available():
        from hri30_ext.utils.env_check import why_no_cuda
        reason = why_no_cuda(torch)
        fail(f'--device {device}: torch.cuda.is_available() is False: {reason}.\n'
             'Use --device cpu, or mend CUDA.')


def make_deterministic(args: argparse.Namespace) -> None:
    """Has a run compute the same numbers twice; call it before torch is imported."""
    # cuBLAS reads it when CUDA starts.
    os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    args.cfg_options.append('deterministic=True')


def fail(message: str, code: int = 2) -> NoReturn:
    """Prints a message and exits; status 2 is a user's mistake."""
    from hri30_ext.utils.text import printable
    message = printable(message, keep='\n')  # file names may hold what drives a terminal
    file = os.environ.get('HRI30_ERROR_FILE')
    if file:  # one of several processes: tools/_launch.py says it once
        Path(file).write_text(message, encoding='utf-8', errors='surrogateescape')
        _exit_at_once(code)
    print(f'error: {message}', file=sys.stderr)
    sys.exit(code)


def _exit_at_once(code: int) -> NoReturn:
    """Ends one of several processes; in order, it might wait for one that is gone."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def run(main: Callable[[], object]) -> None:
    """Runs a tool; a mistake of the user's ends it with a message.

    Args:
        main (Callable): The tool; :class:`~hri30_ext.errors.HRI30Error` is for
            the user and says the exit status, every other exception is a bug and
            keeps its traceback.
    """
    from hri30_ext.errors import HRI30Error, Interrupted  # imports nothing else
    try:
        main()
    except KeyboardInterrupt:
        print('\ninterrupted', file=sys.stderr)
        sys.exit(130)
    except Interrupted as error:
        print(f'\ninterrupted: {error}', file=sys.stderr)
        sys.exit(error.exit_code)
    except HRI30Error as error:
        # A worker process wraps the message in its traceback.
        fail(str(error).rsplit(f'{type(error).__name__}: ', 1)[-1].strip(),
             error.exit_code)
    except Exception:
        if not os.environ.get('HRI30_ERROR_FILE'):
            raise
        traceback.print_exc()
        _exit_at_once(1)
