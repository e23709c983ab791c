"""The state of the environment in ``.venv``, and the checks that it must pass.

``tools/setup.sh`` runs this file by its path, with the Python of ``.venv``::

    env_check.py state [--python 3.12.1]   # prints a verdict and its reason
    env_check.py record FILE               # notes what is installed, and from what
    env_check.py check                     # versions, device, one forward pass

It must give its answers where packages are missing or broken, so it imports
nothing but the standard library until a check asks for more.
"""

import argparse
import hashlib
import importlib
import json
import os
import platform
import re
import shlex
import shutil
import sys
import time
import warnings
from importlib import metadata, util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

#: Written into ``.venv`` by ``tools/setup.sh``: ``STAMP`` once everything is
#: installed and has passed the checks, ``INSTALLED`` in between.
STAMP = '.hri30-setup'
INSTALLED = '.hri30-installed'

#: Module to distribution, of the packages that are looked at. In the order of
#: import: what others build on comes first.
PACKAGES = {
    'numpy': 'numpy',
    'torch': 'torch',
    'cv2': 'opencv-contrib-python',
    'decord': 'decord',
    'mmengine': 'mmengine',
    'mmcv': 'mmcv-lite',
    'mmaction': 'mmaction2',
    'hri30_ext': 'hri30_ext',
}

#: Shared library to its package on Debian or Ubuntu and on Fedora.
SYSTEM_LIBRARIES = {
    'libEGL.so.1': ('libegl1', 'mesa-libEGL'),
    'libGL.so.1': ('libgl1', 'mesa-libGL'),
    'libSM.so.6': ('libsm6', 'libSM'),
    'libX11.so.6': ('libx11-6', 'libX11'),
    'libXext.so.6': ('libxext6', 'libXext'),
    'libXrender.so.1': ('libxrender1', 'libXrender'),
    'libglib-2.0.so.0': ('libglib2.0-0', 'glib2'),
    'libgomp.so.1': ('libgomp1', 'libgomp'),
    'libgthread-2.0.so.0': ('libglib2.0-0', 'glib2'),
    'libstdc++.so.6': ('libstdc++6', 'libstdc++'),
}

#: Exit codes of ``check``; ``tools/setup.sh`` keeps the packages on 3.
MACHINE_OR_CODE, BROKEN_PACKAGE = 3, 4


class CheckError(Exception):
    """A failed check, with the exit code that says what may mend it."""

    def __init__(self, message, code=MACHINE_OR_CODE):
        super().__init__(message)
        self.code = code


# --- what is installed, and whether it may be trusted ---------------------------


def fingerprint(root=ROOT):
    """What an environment depends on, beyond its packages.

    Returns:
        dict: ``config``, a hash of the files that name the packages; ``clone``,
        the folder (a moved environment is broken: its paths are absolute);
        ``python``, the minor version that the packages were built for.
    """
    config = hashlib.sha256()
    for name in ('setup.cfg', 'pyproject.toml'):
        path = Path(root, name)
        config.update(path.read_bytes() if path.is_file() else b'')
    # From bytes, so that it does not depend on the locale.
    clone = os.fsencode(root).decode('utf-8', 'backslashreplace')
    python = '.'.join(platform.python_version_tuple()[:2])
    return dict(config=config.hexdigest(), clone=clone, python=python)


def installed_versions():
    """Versions of the packages that are looked at, None where there is none."""

    def version(distribution):
        try:
            return metadata.version(distribution)
        except metadata.PackageNotFoundError:
            return None

    return {name: version(name) for name in PACKAGES.values()}


def missing_modules(root=ROOT):
    """Modules that are not there, or in the case of our own not from here."""

    def is_there(module):
        spec = util.find_spec(module)
        if spec is None or spec.origin is None:  # None: an empty folder
            return False
        return module != 'hri30_ext' or Path(root) in Path(spec.origin).parents

    return [module for module in PACKAGES if not is_there(module)]


def read_record(path):
    """The record in a file; None if there is none that can be read."""
    try:
        record = json.loads(Path(path).read_text('utf-8'))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def write_record(path):
    """Notes what is installed now, and from what, in one step."""
    path = Path(path)
    record = dict(fingerprint(), packages=installed_versions())
    draft = path.with_name(f'{path.name}.{os.getpid()}')
    draft.write_text(json.dumps(record, indent=2) + '\n', 'utf-8')
    os.replace(draft, path)


def verdict(record, checked, now, packages, missing):
    """Whether an environment may be used as it is.

    Args:
        record (dict, optional): What was noted when it was made.
        checked (bool): Whether it has passed the checks since.
        now (dict): :func:`fingerprint` as it is now.
        packages (dict): :func:`installed_versions` as they are now.
        missing (list[str]): :func:`missing_modules` as they are now.

    Returns:
        tuple[str, str]: ``ready``, ``check`` (installed, but not checked),
        ``update`` (pip can mend it in place) or ``rebuild``; and why.
    """
    if record is None:
        return 'rebuild', 'its set-up was not finished'
    if record.get('clone') != now['clone']:
        return 'rebuild', 'it was made for another folder'
    if record.get('python') != now['python']:
        return 'rebuild', f'it was made for Python {record.get("python")}'
    if missing:
        return 'rebuild', f'missing from it: {", ".join(missing)}'
    if record.get('config') != now['config']:
        return 'update', 'setup.cfg or pyproject.toml has changed'
    if record.get('packages') != packages:
        noted = record.get('packages') or {}
        changed = [k for k, v in packages.items() if noted.get(k) != v]
        return 'update', f'other versions than at its set-up: {", ".join(changed)}'
    return ('ready' if checked else 'check'), ''


def state(venv, python=None):
    """:func:`verdict` on the environment that this runs in."""
    if python and python != platform.python_version():
        return (
            'rebuild',
            f'PYTHON asks for {python}, it has {platform.python_version()}',
        )
    checked = Path(venv, STAMP).is_file()
    record = read_record(Path(venv, STAMP if checked else INSTALLED))
    return verdict(
        record, checked, fingerprint(), installed_versions(), missing_modules()
    )


# --- the checks -----------------------------------------------------------------


def library_hint(message):
    """What to install for a shared library that an import did not find.

    Args:
        message (str): The message of the ImportError or OSError.

    Returns:
        str | None: The advice; None if no library of the system is missing.
        Libraries of CUDA and torch come with packages, not with the system.
    """
    found = re.search(r'(lib[\w.+-]+\.so[\w.]*): cannot open shared object', message)
    if not found or re.match(r'lib(cu|nv|torch|c10|nccl|triton)', found[1]):
        return None
    library = found[1]
    if library in SYSTEM_LIBRARIES:
        debian, fedora = SYSTEM_LIBRARIES[library]
        how = (
            f'install {debian} (Debian, Ubuntu: apt-get install {debian}) '
            f'or {fedora} (Fedora: dnf install {fedora})'
        )
    else:
        how = (
            'find its package with "apt-file search" (Debian, Ubuntu) or '
            f'"dnf provides \'*/{library}\'" (Fedora)'
        )
    return f'the system library {library} is missing: {how}'


def import_checked(module):
    """Imports a module; what goes wrong becomes a :class:`CheckError`."""
    try:
        return importlib.import_module(module)
    except Exception as error:
        summary = f'import {module} failed: {type(error).__name__}: {error}'
        hint = library_hint(str(error))
        if hint:
            raise CheckError(f'{summary}\n  {hint}') from error
        ours = module.startswith('hri30_ext') and not (
            isinstance(error, ModuleNotFoundError)
            and not (error.name or '').startswith('hri30_ext')
        )
        if ours:
            python = shlex.quote(sys.executable)
            raise CheckError(
                f'{summary}\n  for the traceback: {python} -c "import {module}"'
            ) from error
        raise CheckError(
            f'{summary}\n  the next set-up installs everything anew', BROKEN_PACKAGE
        ) from error


OTHER_CUDA = (
    'Another build of torch, say for CUDA 12.6:\n  '
    '.venv/bin/python -m pip install --force-reinstall "torch>=2.6,!=2.9.*,<3" '
    '--index-url https://download.pytorch.org/whl/cu126'
)


def why_no_cuda(torch):
    """Why ``torch.cuda.is_available()`` is False, as far as it can be known.

    Returns None where it is True.
    """
    driver = bool(shutil.which('nvidia-smi')) or os.path.exists('/dev/nvidiactl')
    if torch.version.cuda is None and getattr(torch.version, 'hip', None) is None:
        note = '; this machine has an NVIDIA driver, though. ' + OTHER_CUDA
        return 'torch is a CPU build' + (note if driver else '')

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        available = torch.cuda.is_available()
    if available:
        return None
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    if visible is not None and visible.strip() in ('', '-1'):
        why = f'CUDA_VISIBLE_DEVICES={visible!r} hides the GPUs'
    elif not driver:
        why = 'no NVIDIA driver is on this machine'
    else:
        told = str(caught[0].message).split(' (Triggered', 1)[0] if caught else ''
        why = (told or 'the NVIDIA driver shows no GPU') + '. ' + OTHER_CUDA
    return f'torch is a build for CUDA {torch.version.cuda}, but {why}'


def describe_device(torch):
    """The device that runs will use, and if that is the CPU, why."""
    why = why_no_cuda(torch)
    if why:
        return f'cpu ({why})'
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return 'cuda: ' + ', '.join(
        f'{names.count(name)}x {name}' for name in dict.fromkeys(names)
    )


def forward_pass(torch, device):
    """Runs a tiny SlowOnly, built as configs build theirs, on a random clip."""
    from mmaction.registry import MODELS
    from mmengine.registry import init_default_scope

    init_default_scope('mmaction')
    model = MODELS.build(
        dict(
            type='Recognizer3D',
            backbone=dict(
                type='ResNet3dSlowOnly',
                depth=18,
                pretrained=None,
                lateral=False,
                conv1_kernel=(1, 7, 7),
                conv1_stride_t=1,
                pool1_stride_t=1,
                inflate=(0, 0, 1, 1),
                norm_eval=False,
            ),
            cls_head=dict(type='I3DHead', in_channels=512, num_classes=30),
        )
    )
    model = model.to(device).eval()
    clip = torch.rand(1, 1, 3, 8, 32, 32, device=device)  # N, views, C, T, H, W
    with torch.no_grad():
        scores = model.cls_head(model(clip, mode='tensor'))
    if scores.shape != (1, 30) or not torch.isfinite(scores).all():
        raise RuntimeError(f'expected 30 finite scores, got {scores}')


def run_checks():
    """Prints versions, device and a forward pass; raises on what is wrong."""

    def show(name, text):
        print(f'  {name:<22} {text}', flush=True)

    show('python', f'{platform.python_version()} ({sys.executable})')
    modules = {}
    for module, distribution in PACKAGES.items():
        if module == 'hri30_ext':
            continue
        modules[module] = import_checked(module)
        version = getattr(modules[module], '__version__', None)
        show(distribution, version or metadata.version(distribution))

    torch = modules['torch']
    device = describe_device(torch)
    show('device', device)

    import_checked('hri30_ext.modules')
    for name in ('cpu', 'cuda') if device.startswith('cuda') else ('cpu',):
        start = time.perf_counter()
        try:
            forward_pass(torch, name)
        except Exception as error:
            message = f'{type(error).__name__}: {error}'.strip().split('\n')[0]
            if name == 'cpu':
                raise CheckError(f'forward pass failed: {message}') from error
            show('warning', f'the GPU cannot run this torch: {message}. {OTHER_CUDA}')
        else:
            seconds = time.perf_counter() - start
            show('forward', f'a small SlowOnly on {name}, {seconds:.1f} s')


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    commands = parser.add_subparsers(dest='command', required=True)
    sub = commands.add_parser('state', help='print a verdict and its reason')
    sub.add_argument('--python', help='the version that is asked for')
    sub = commands.add_parser('record', help='note what is installed')
    sub.add_argument('file')
    commands.add_parser('check', help='print versions and run a forward pass')
    args = parser.parse_args(argv)

    if args.command == 'state':
        print(*state(sys.prefix, args.python))
    elif args.command == 'record':
        write_record(args.file)
    else:
        warnings.simplefilter('ignore')  # of packages that are only imported here
        try:
            run_checks()
        except CheckError as error:
            print(f'error: {error}', file=sys.stderr)
            return error.code
    return 0


if __name__ == '__main__':
    sys.exit(main())
