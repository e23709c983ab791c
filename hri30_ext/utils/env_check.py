"""Checks the environment in ``.venv``; tools/setup.sh runs this file by its path.

    env_check.py packages   # exits 0 if the packages of requirements.lock are installed
    env_check.py torch      # exits 0 if a torch is installed that setup.cfg allows
    env_check.py check      # imports, the device, one forward pass; 3: failed, 4: rebuild

Imports only the standard library and pip's copy of packaging, until ``check``.
"""

import configparser
import importlib
import os
import shutil
import sys
import warnings
from importlib import metadata, util
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: Modules that must import, in the order in which they build on each other.
MODULES = ('numpy', 'torch', 'cv2', 'decord', 'av', 'mmengine', 'mmcv', 'mmaction',
           'hri30_ext.modules')
BUILDS = 'For another build of torch, see the top of tools/setup.sh'


def read_requirements(lines: list[str]) -> dict:
    """Parses requirements that apply to this Python; maps names to specifiers."""
    from pip._vendor.packaging.requirements import Requirement
    requirements = [Requirement(line) for line in map(str.strip, lines)
                    if line and not line.startswith(('#', 'hri30_ext'))]
    return {one.name: one.specifier for one in requirements
            if one.marker is None or one.marker.evaluate()}


def read_setup_cfg(root: Path = ROOT) -> dict:
    """Returns the direct requirements in setup.cfg, of all extras."""
    parser = configparser.ConfigParser()
    parser.read(root / 'setup.cfg', encoding='utf-8')
    texts = [parser['options']['install_requires'],
             *parser['options.extras_require'].values()]
    return read_requirements('\n'.join(texts).splitlines())


def find_differences(required: dict, root: Path | None = ROOT) -> list[str]:
    """Returns what is missing or of another version than required.

    Args:
        required (dict): Specifiers by name.
        root (Path, optional): The clone that hri30_ext must be installed from.
    """
    found = {}
    for name in required:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = 'missing'
    wrong = [f'{name} {version}, expected {required[name]}' for name, version
             in found.items() if version == 'missing' or version not in required[name]]
    own = util.find_spec('hri30_ext')
    if root and (own is None or root not in Path(own.origin or '/').parents):
        wrong.append(f'hri30_ext {own.origin if own else "missing"}, expected in {root}')
    return wrong


def why_no_cuda(torch) -> str | None:
    """Returns why ``torch.cuda.is_available()`` is False; None if it is True."""
    driver = bool(shutil.which('nvidia-smi')) or os.path.exists('/dev/nvidiactl')
    if torch.version.cuda is None and getattr(torch.version, 'hip', None) is None:
        return 'torch is a CPU build' + (
            f', though this machine has an NVIDIA driver. {BUILDS}' if driver else '')
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        if torch.cuda.is_available():
            return None
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    if visible is not None and visible.strip() in ('', '-1'):
        why = f'CUDA_VISIBLE_DEVICES={visible!r} hides the GPUs'
    elif not driver:
        why = 'this machine has no NVIDIA driver'
    else:
        text = str(caught[0].message).split(' (Triggered', 1)[0] if caught else ''
        why = f'{text or "the NVIDIA driver shows no GPU"}. {BUILDS}'
    return f'torch is a build for CUDA {torch.version.cuda}, but {why}'


def run_forward_pass(torch, device: str) -> None:
    """Runs a small SlowOnly on a random clip."""
    from mmaction.registry import MODELS
    from mmengine.registry import init_default_scope
    init_default_scope('mmaction')
    model = MODELS.build(dict(
        type='Recognizer3D',
        backbone=dict(type='ResNet3dSlowOnly', depth=18, pretrained=None, lateral=False,
                      conv1_kernel=(1, 7, 7), inflate=(0, 0, 1, 1)),
        cls_head=dict(type='I3DHead', in_channels=512, num_classes=30))).to(device).eval()
    clip = torch.rand(1, 1, 3, 8, 32, 32, device=device)  # N, views, C, T, H, W
    with torch.no_grad():
        scores = model.cls_head(model(clip, mode='tensor'))
    if scores.shape != (1, 30) or not torch.isfinite(scores).all():
        raise RuntimeError(f'expected 30 finite scores, got {scores}')


def check() -> int:
    """Prints versions and the device, and runs a model; returns the exit status."""
    warnings.simplefilter('ignore')  # of the packages
    print(f'  python {sys.version.split()[0]} ({sys.executable})')
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except Exception as error:
            print(f'error: import {name}: {type(error).__name__}: {error}', file=sys.stderr)
            machine_or_code = name.startswith('hri30_ext') or 'shared object' in str(error)
            return 3 if machine_or_code else 4
        print(f'  {name} {getattr(module, "__version__", "")}', flush=True)
    torch = sys.modules['torch']
    why = why_no_cuda(torch)
    print(f'  device: cpu ({why})' if why else f'  device: {torch.cuda.get_device_name()}')
    for device in ['cpu'] if why else ['cpu', 'cuda']:
        try:
            run_forward_pass(torch, device)
        except Exception as error:
            text = f'forward pass on {device}: {type(error).__name__}: {error}'
            print(f'error: {text.splitlines()[0]}. {BUILDS}.', file=sys.stderr)
            if device == 'cpu':
                return 3
    return 0


def main(command: str) -> int:
    if command == 'check':
        return check()
    lock = (ROOT / 'requirements.lock').read_text(encoding='utf-8').splitlines()
    torch = {'torch': read_setup_cfg()['torch']}
    required = torch if command == 'torch' else {**torch, **read_requirements(lock)}
    differences = find_differences(required, None if command == 'torch' else ROOT)
    print('; '.join(differences[:3]))
    return bool(differences)


if __name__ == '__main__':
    sys.exit(main(sys.argv[1]))
