"""What the rows of a run share."""

import dataclasses
import os
import platform
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import torch
from mmengine.config import Config

from ..config import PROJECT_ROOT, load_config
from ..synthetic import write_dataset
from ..utils.parallel import available_cores

#: What "ours" is, as shipped, but that no weights are downloaded.
PRIMITIVE = str(PROJECT_ROOT / 'configs' / 'slowonly' /
                'slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py')
DEMO = str(PROJECT_ROOT / 'configs' / 'demo' /
           'slowonly_scratch-r18_1xb16-uniform8-50e_embedded-rgb.py')

#: The embedded data that are rendered where no folder is given: enough for the short rows,
#: and as many as the demo trains on.
_FEW = dict(train_groups=4, test_groups=1, clips=1)
_MANY = dict(train_groups=50, test_groups=10, clips=1)


@dataclass(frozen=True)
class Setup:
    """Data, scratch folder, device and this project's config.

    Args:
        work_dir (str): A scratch folder.
        data_root (str, optional): A folder of clips, used as it is; None: 720x480 clips
            are rendered into ``work_dir``.
        options (dict): Settings for every config of this project, as parsed from
            ``--cfg-options``.
        device (str): ``cpu`` or ``cuda``.
        rounds (int, optional): Pairs of turns of each row; None: each row's own.
        seconds (float): Length of a turn of the rows that read clips.
        checkpoint (str, optional): Of the demo's model.
        limit (float): Minutes after which a long training is stopped.
    """

    work_dir: str
    data_root: str | None = None
    options: dict = field(default_factory=dict)
    device: str = 'cpu'
    rounds: int | None = None
    seconds: float = 2.0
    checkpoint: str | None = None
    limit: float = 40.0

    def with_data(self, many: bool = False) -> 'Setup':
        """Renders the clips where none are given.

        Args:
            many (bool): Whether to take as many as the demo trains on.

        Returns:
            Setup: The same, with ``data_root``.
        """
        if self.data_root:
            return self
        root = Path(self.work_dir) / ('many_clips' if many else 'clips')
        write_dataset(root, **(_MANY if many else _FEW))
        return dataclasses.replace(self, data_root=str(root))

    def ours(self, config: str = PRIMITIVE, **settings) -> Config:
        """Loads a config of this project as it is shipped.

        Args:
            config (str): Its path; the primitive by default.
            **settings: What the row sets, by setting; ``options`` beat it.

        Returns:
            Config: With its references resolved, and no download.
        """
        cfg = load_config(config, {
            'data_root': self.data_root, 'load_from': None, **settings, **self.options})
        cfg.work_dir = self.scratch('ours')
        return cfg

    def scratch(self, name: str) -> str:
        """Makes a new folder in the scratch folder."""
        for i in range(10 ** 6):
            folder = Path(self.work_dir) / f'{name}-{os.getpid()}-{i}'
            if not folder.exists():
                folder.mkdir(parents=True)
                return str(folder)
        raise RuntimeError('no free name')

    def repetitions(self, default: int) -> int:
        """Returns how many pairs of turns count."""
        return self.rounds or default

    def log(self, name: str) -> Path:
        """Returns where a side's process prints."""
        return Path(self.work_dir) / f'{name}.log'


def synchronize() -> None:
    """Waits for the device; on the CPU there is nothing to wait for."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(work: Callable) -> float:
    """Times a piece of work, to the end of what it queued on the device."""
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


def gpu_utilization() -> float | None:
    """Reads how busy the first visible GPU is, in percent; None where none can say."""
    visible = os.environ.get('CUDA_VISIBLE_DEVICES', '0').split(',')[0] or '0'
    try:
        read = subprocess.run(
            ['nvidia-smi', f'--id={visible}', '--query-gpu=utilization.gpu',
             '--format=csv,noheader,nounits'], capture_output=True, text=True, timeout=10)
        return float(read.stdout.split()[0])
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError):
        return None


# ---- What a run was done with -----------------------------------------------------------

_PACKAGES = ('torch', 'mmengine', 'mmaction2', 'mmcv-lite', 'numpy', 'opencv-python',
             'decord', 'av', 'openvino', 'nncf')
#: Instructions that decide what bf16 and int8 cost.
_INSTRUCTIONS = ('avx2', 'avx512f', 'avx512_bf16', 'avx512_vnni', 'amx_bf16', 'amx_int8')


def describe_machine(device: str) -> dict:
    """Describes the hardware, and how busy it was with other things."""
    lines = {}
    if Path('/proc/cpuinfo').is_file():
        for line in Path('/proc/cpuinfo').read_text().split('\n\n')[0].splitlines():
            key, _, value = line.partition(':')
            lines[key.strip()] = value.strip()
    flags = lines.get('flags', '').split()
    return dict(
        cpu=lines.get('model name', platform.processor()), cores=available_cores(),
        instructions=[name for name in _INSTRUCTIONS if name in flags],
        memory_gib=round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
                         / 2 ** 30, 1),
        device=torch.cuda.get_device_name() if device == 'cuda' else 'cpu',
        system=platform.platform(), load_average_at_start=round(os.getloadavg()[0], 2))


def describe_versions() -> dict:
    """Lists the versions of what the figures depend on; None: not installed."""
    def version(name):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None
    return dict(python=platform.python_version(), **{
        name: version(name) for name in _PACKAGES})
