"""What the verbs of ``hri30`` share: arguments, the device, and messages for mistakes.

Imports only the standard library, so that ``--help`` is quick, and so that the device is
chosen before torch is imported.
"""

import argparse
import json
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from ..errors import HRI30Error, Interrupted
from ..utils.text import printable


class Parser(argparse.ArgumentParser):
    """A parser without abbreviated options, whose errors go through :func:`fail`."""

    def __init__(self, description: str | None = None, **kwargs) -> None:
        super().__init__(description=description, allow_abbrev=False, **kwargs)

    def error(self, message: str) -> NoReturn:
        fail(f'{message}\n{self.format_usage().strip()}')


def at_least(least: float, kind: type = int) -> Callable:
    """Returns a type of arguments: numbers of a kind that are not less than ``least``."""
    def number(text: str):
        value = kind(text)
        if not least <= value < float('inf'):
            raise argparse.ArgumentTypeError(f'{text}: expected {least} or more')
        return value
    return number


def add_workers_argument(parser: argparse.ArgumentParser) -> None:
    """Adds the number of clips that are processed at a time."""
    parser.add_argument('--workers', type=at_least(1), metavar='N',
                        help='clips at a time; default: one a core')


def add_inference_arguments(parser: argparse._ActionsContainer) -> None:
    """Adds the arguments that say how a model runs."""
    parser.add_argument('--threads', type=at_least(1), metavar='N',
                        help='CPU threads of the model; default: one a core')
    parser.add_argument('--provider', metavar='P', help='where an exported folder runs, of '
                        'ONNX Runtime: cuda, coreml or directml')


def add_options_argument(parser: argparse.ArgumentParser, help: str) -> None:
    """Adds ``--cfg-options``, a list of ``KEY=VALUE``; see :func:`run`."""
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help=help)


def add_runtime_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that training and testing share."""
    parser.add_argument('--device', metavar='cpu|cuda[:N]',
                        help='where to run; by default CUDA if available')
    add_options_argument(parser, 'settings that override HRI30_ROOT and the config, such '
                                 'as data_root=PATH batch_size=8 split.val_groups=[1]')
    parser.add_argument('--launcher', choices=('none', 'pytorch'), default='none',
                        help=argparse.SUPPRESS)


def add_trained_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that name what was trained, and where to run it."""
    parser.add_argument('config', metavar='CONFIG', help='the config that was trained')
    parser.add_argument('checkpoint', metavar='CHECKPOINT', help='.pth or .safetensors')
    add_runtime_arguments(parser)


def add_measured_arguments(parser: argparse.ArgumentParser, name: str) -> None:
    """Adds the arguments of an analysis that tests changed clips of a split."""
    add_trained_arguments(parser)
    parser.add_argument('--split', choices=('val', 'test'), default='val',
                        help='default: %(default)s')
    parser.add_argument('--out', metavar='D', help=f'gets SPLIT/{name}.json and '
                        f'SPLIT/{name}.png; by default the folder of the checkpoint')


def add_runs_arguments(parser: argparse.ArgumentParser, seeds: list[int]) -> None:
    """Adds the arguments of many trainings of a config."""
    parser.add_argument('config', metavar='CONFIG', help='a file in configs/')
    parser.add_argument('--seeds', type=int, nargs='+', default=seeds,
                        help='default: %(default)s')
    parser.add_argument('--out', required=True, metavar='D', help='folder of the runs')
    add_options_argument(parser, 'settings of all runs')


def choose_device(device: str | None) -> None:
    """Makes only ``cpu``, ``cuda`` or ``cuda:N`` visible, before torch is imported. Exits
    with a message on another form, or if CUDA is not available.
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
        # As in torch, N counts the devices that are visible.
        visible = os.environ.get('CUDA_VISIBLE_DEVICES', '').split(',')
        number = int(match.group(1))
        if visible != ['']:
            if number >= len(visible):
                fail(f'--device {device}: CUDA_VISIBLE_DEVICES={",".join(visible)} leaves '
                     f'{len(visible)}; expected cuda:{len(visible) - 1} or less.')
            number = visible[number]
        os.environ['CUDA_VISIBLE_DEVICES'] = str(number)
    import torch
    if not torch.cuda.is_available():
        from ..env_check import why_no_cuda
        fail(f'--device {device}: torch.cuda.is_available() is False: '
             f'{why_no_cuda(torch)}.\nUse --device cpu, or fix CUDA.')


def fail(message: str, code: int = 2) -> NoReturn:
    """Prints a message and exits; status 2 is a user's mistake.

    One of several processes leaves the message to the launcher, which prints that of the
    process that failed first.
    """
    message = printable(message, keep='\n')  # file names may hold terminal controls
    file = os.environ.get('TORCHELASTIC_ERROR_FILE')
    if not file:
        print(f'error: {message}', file=sys.stderr)
        sys.exit(code)
    if code == 75:  # the launcher should see first the process that was lost
        time.sleep(2)
    Path(file).write_text(json.dumps(dict(
        message=message, status=code, timestamp=int(time.time()))), encoding='utf-8')
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)  # a regular exit might wait for a process that is gone


def _parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    args = parser.parse_args()
    choose_device(getattr(args, 'device', None))
    if 'cfg_options' in args:
        if getattr(args, 'deterministic', False):
            args.cfg_options = [*args.cfg_options, 'deterministic=True']
        args.options = {}
        if args.cfg_options:
            from ..config import parse_options
            args.options = parse_options(args.cfg_options)
    return args


def run(main: Callable, parser: argparse.ArgumentParser | None = None) -> None:
    """Runs a verb and turns its exceptions into messages and exit statuses.

    Args:
        main (Callable): Of the verb. An :class:`~hri30_ext.errors.HRI30Error` becomes a
            message and its exit status; any other exception keeps its traceback.
        parser (argparse.ArgumentParser, optional): Of the arguments that ``main`` takes.
            ``--device`` is chosen before; ``options`` are the parsed ``--cfg-options``.
    """
    try:
        main(*([_parse(parser)] if parser else []))
    except (KeyboardInterrupt, Interrupted) as error:
        print(f'\ninterrupted: {error}'.removesuffix(': '), file=sys.stderr)
        sys.exit(getattr(error, 'exit_code', 128 + signal.SIGINT))
    except BrokenPipeError:  # the reader of the output ended, such as head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except HRI30Error as error:
        # A worker process wraps the message in its traceback.
        fail(str(error).rsplit(f'{type(error).__name__}: ', 1)[-1].strip(),
             error.exit_code)
    except Exception as error:
        if isinstance(error, PermissionError) and error.filename:
            fail(f'{error.filename}: {error.strerror}.\nExpected a file or folder that you '
                 'may use; change its rights, or name another.', HRI30Error.exit_code)
        if 'TORCHELASTIC_ERROR_FILE' not in os.environ:
            raise
        fail(f'rank {os.environ["RANK"]} of {os.environ["WORLD_SIZE"]}:\n'
             f'{traceback.format_exc().strip()}', 1)
