"""Checks the environment in ``.venv``; tools/setup.sh runs this file by its path.

    env_check.py packages LOCK  # whether torch and the packages of a lock are there
    env_check.py torch          # whether a torch is there that setup.cfg allows
    env_check.py check          # imports, device, a convolution; 3: failed, 4: rebuild
"""

import configparser
import importlib
import os
import shutil
import sys
import warnings
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
#: In the order in which they build on each other.
MODULES = ('numpy', 'torch', 'cv2', 'decord', 'av', 'mmengine', 'mmcv', 'mmaction',
           'hri30_ext.modules')
#: After a message about torch and the GPU.
ADVICE = 'For another build of torch, see the top of tools/setup.sh.'


def read_requirements(text: str) -> dict:
    """Returns the specifiers of the requirements that apply to this Python, by name."""
    from pip._vendor.packaging.requirements import Requirement
    requirements = [Requirement(line) for line in map(str.strip, text.splitlines())
                    if line and not line.startswith(('#', 'hri30_ext'))]
    return {one.name: one.specifier for one in requirements
            if one.marker is None or one.marker.evaluate()}


def read_setup_cfg() -> dict:
    """Returns the specifiers of the requirements in setup.cfg and its extras, by name."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / 'setup.cfg', encoding='utf-8')
    return read_requirements('\n'.join([parser['options']['install_requires'],
                                        *parser['options.extras_require'].values()]))


def find_differences(required: dict) -> list[str]:
    """Returns which packages are missing, or not of the versions required."""
    differences = []
    for name, specifier in required.items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = 'missing'
        if version == 'missing' or version not in specifier:
            differences.append(f'{name} {version}, expected {specifier}')
    return differences


def why_no_cuda(torch) -> str | None:
    """Returns why ``torch.cuda.is_available()`` is False; None if it is True."""
    driver = bool(shutil.which('nvidia-smi')) or os.path.exists('/dev/nvidiactl')
    if torch.version.cuda is None and getattr(torch.version, 'hip', None) is None:
        return 'torch is a CPU build' + (
            f', but this machine has an NVIDIA driver. {ADVICE}' if driver else '')
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        if torch.cuda.is_available():
            return None
    text = str(caught[0].message).split(' (Triggered', 1)[0] if caught else ''
    why = text or f'the NVIDIA driver {"shows no GPU" if driver else "is missing"}'
    return (f'torch is a build for CUDA {torch.version.cuda}, but {why} '
            f'(CUDA_VISIBLE_DEVICES={os.environ.get("CUDA_VISIBLE_DEVICES")}). {ADVICE}')


def run_convolution(torch, device: str) -> None:
    """Runs a 3D convolution on a random clip."""
    clip = torch.rand(1, 3, 8, 32, 32, device=device)  # N, C, T, H, W
    scores = torch.nn.Conv3d(3, 30, (8, 32, 32), device=device)(clip)
    if not torch.isfinite(scores).all():
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
            run_convolution(torch, device)
        except Exception as error:
            text = f'convolution on {device}: {type(error).__name__}: {error}'
            print(f'error: {text.splitlines()[0]}. {ADVICE}', file=sys.stderr)
            if device == 'cpu':
                return 3
    return 0


if __name__ == '__main__':
    if sys.argv[1] == 'check':
        sys.exit(check())
    required = {'torch': read_setup_cfg()['torch']}
    if sys.argv[1] == 'packages':
        required |= read_requirements(Path(sys.argv[2]).read_text('utf-8'))
        required |= read_requirements('hri30-ext')
    differences = find_differences(required)
    print('; '.join(differences[:3]))
    sys.exit(bool(differences))
