"""What the rows of a run share, and the description of the machine."""

import dataclasses
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

import torch
from mmengine.config import Config

from hri30_ext.config import PROJECT_ROOT, load_config
from hri30_ext.synthetic import write_dataset
from hri30_ext.utils.parallel import available_cores

#: The config that "ours" means, except that no weights are downloaded.
PRIMITIVE = str(PROJECT_ROOT / 'configs' / 'slowonly' /
                'slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py')
DEMO = str(PROJECT_ROOT / 'configs' / 'demo' /
           'slowonly_scratch-r18_1xb16-uniform8-50e_embedded-rgb.py')


@dataclass(frozen=True)
class Setup:
    """Data, scratch folder, device and this project's config.

    Args:
        work_dir (str): A scratch folder.
        data_root (str, optional): A folder of clips, used unchanged; None: 720x480 clips
            are rendered into ``work_dir``.
        options (dict): Settings for every config of this project.
        device (str): ``cpu`` or ``cuda``.
        rounds (int, optional): Pairs of turns; None: the default of each row.
        seconds (float): Length of a turn of the rows that read clips.
        checkpoint (str, optional): A checkpoint of the demo's model.
        limit (float): Minutes after which a training of ``time_to_accuracy`` is stopped.
    """

    work_dir: str
    data_root: str | None = None
    options: dict = field(default_factory=dict)
    device: str = 'cpu'
    rounds: int | None = None
    seconds: float = 2.0
    checkpoint: str | None = None
    limit: float = 40.0

    def with_data(self, train_groups: int = 4, test_groups: int = 1) -> 'Setup':
        """Returns a copy with ``data_root``; renders the clips if no folder was given."""
        if self.data_root:
            return self
        root = str(Path(self.work_dir) / f'clips-{train_groups}-{test_groups}')
        write_dataset(root, train_groups=train_groups, test_groups=test_groups, clips=1)
        return dataclasses.replace(self, data_root=root)

    def with_demo_data(self) -> 'Setup':
        """Likewise, with as many clips as the demo trains on."""
        return self.with_data(train_groups=50, test_groups=10)

    def ours(self, config: str = PRIMITIVE, **settings) -> Config:
        """Loads a config as shipped, without a download; ``options`` override a row's."""
        cfg = load_config(config, {
            'data_root': self.data_root, 'load_from': None, **settings, **self.options})
        cfg.work_dir = self.scratch('ours')
        return cfg

    def scratch(self, name: str) -> str:
        """Makes a new folder in the scratch folder."""
        return tempfile.mkdtemp(dir=self.work_dir, prefix=f'{name}-')

    def for_device(self, cpu: int, cuda: int) -> int:
        """Returns the number for this device."""
        return cuda if self.device == 'cuda' else cpu


def synchronize() -> None:
    """Waits for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(work: Callable) -> float:
    """Times a piece of work, including what it queued on the GPU."""
    synchronize()
    start = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - start


_PACKAGES = ('torch', 'mmengine', 'onedl-mmengine', 'mmaction2', 'mmcv-lite', 'numpy',
             'opencv-python-headless', 'decord2', 'av', 'simplejpeg', 'openvino', 'nncf')
#: Instructions that decide the speed of bf16 and int8.
_INSTRUCTIONS = ('avx2', 'avx512f', 'avx512_bf16', 'avx512_vnni', 'amx_bf16', 'amx_int8')


def describe_machine(device: str) -> dict:
    """Describes the hardware, and the load on it at the start."""
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text().split('\n\n')[0].splitlines() if cpuinfo.is_file() else []
    values = {key.strip(): value.strip()
              for key, _, value in (line.partition(':') for line in lines)}
    flags = values.get('flags', '').split()
    return dict(
        cpu=values.get('model name', platform.processor()), cores=available_cores(),
        instructions=[name for name in _INSTRUCTIONS if name in flags],
        memory_gib=round(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
                         / 2 ** 30, 1),
        device=torch.cuda.get_device_name() if device == 'cuda' else 'cpu',
        system=platform.platform(), load_average_at_start=round(os.getloadavg()[0], 2))


def describe_versions() -> dict:
    """Lists the versions of the packages that the figures depend on."""
    installed = {each.metadata['Name']: each.version for each in metadata.distributions()}
    return dict(python=platform.python_version(),
                **{name: installed.get(name) for name in _PACKAGES})
