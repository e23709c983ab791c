"""Exports every classifier of the zoo with random weights: size, parity, latency.

    .venv/bin/python tests/nightly/exports.py --out D --models slowfast swin --rounds 3

The classifier is scaled so that the logits of a clip spread, and the statistics of
BatchNorm are those of two clips: without both, probabilities are 0 and 1 or all alike, and
no parity would be measured. Residual branches are scaled down, as trained ones are: through
those of R(2+1)D, torch's own float32 is otherwise 5e-4 from its float64. Random weights
have no accuracy, so that int8 and bf16 pass the gate by the shift of probabilities alone.
``D/exports.md`` is the table. Exit status 1: a float32 export was refused or failed.
"""

import argparse
import json
import statistics
import sys
import tempfile
import timeit
from functools import partial
from pathlib import Path

import numpy as np
import torch

import hri30_ext.modules  # noqa: F401  (first: it fixes the others)

# isort: split
from mmaction.registry import MODELS as REGISTRY
from mmengine.registry import init_default_scope

from hri30_ext.apis.exporting import export
from hri30_ext.config import PROJECT_ROOT, load_config, parse_options
from hri30_ext.datasets import HRI30_CLASSES
from hri30_ext.datasets.hri30 import list_split
from hri30_ext.deploy.runtime.exported import load
from hri30_ext.deploy.torch_backend import TorchBackend, Whole
from hri30_ext.synthetic import write_dataset
from hri30_ext.video.decode import read_clip
from hri30_ext.video.preprocessing import Preprocessing

KINDS = ('onnx-fp32', 'onnx-int8', 'openvino-fp32', 'openvino-bf16', 'openvino-int8')
#: By name: the beginning of the config's name, and settings.
MODELS = {
    'slowonly': ('slowonly/slowonly_k400-pretrained-r50_1xb16-uniform8-100e', {}),
    'slowfast': ('slowfast/slowfast', {}),
    'x3d-s': ('x3d/x3d_k400-pretrained-s', {}),
    'x3d-m': ('x3d/x3d_k400-pretrained-m', {}),
    'mvit': ('mvit/mvit', {}),
    'swin': ('swin/swin', {}),
    'videomae': ('videomae/videomae', {}),
    'uniformerv2': ('uniformerv2/uniformerv2', {}),
    'ir-csn': ('csn/ircsn', {}),
    'tsn': ('tsn/tsn', {}),
    'tsm': ('tsm/tsm', {}),
    'tin': ('tin/tin', {}),
    'r2plus1d': ('r2plus1d/r2plus1d', {}),
    'cnn-lstm': ('cnn_lstm/cnn-lstm', {}),
    'efficientnet-lite0, conv': ('foundation/conv_efficientnet', {}),
    **{f'dinov2-vits14, {probe}': (f'foundation/{probe}_dinov2-vits14', {})
       for probe in ('mean', 'attentive', 'step', 'conv', 'st-adapter', 'frame2freq')},
    **{f'{name}, conv': ('foundation/conv_clip', dict(backbone=name))
       for name in ('clip-vitb16', 'siglip2-vitb16', 'eva02-vitb14', 'dinov3-vitb16')},
    'videomae-vitb, conv': ('foundation/conv_clip', dict(
        backbone='videomae-vitb', num_frames=16)),
    'vjepa2-vitl, conv': ('foundation/conv_vjepa2', {}),
    'vjepa2-vitl, attentive-vjepa2': ('foundation/attentive-vjepa2', {}),
}


#: The settings of models that are built for one size of frames.
SIZES = {'mvit': 'spatial_size', 'videomae': 'img_size', 'uniformerv2': 'input_resolution'}


def write_checkpoint(config: str, options: dict, path: Path) -> tuple[TorchBackend, float]:
    """Writes random weights whose probabilities are neither alike nor 0 and 1.

    Returns:
        tuple[TorchBackend, float]: The model, and the largest difference of a probability
        between two clips: what a graph that forgets its input would be off by.
    """
    torch.manual_seed(0)
    cfg = load_config(config, options)
    init_default_scope('mmaction')
    model = REGISTRY.build(cfg.model).train()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.abs().max() < 1e-3:  # what starts at zero, or as good as
                torch.nn.init.normal_(parameter, std=0.1)
        for part in model.modules():
            if isinstance(part, torch.nn.modules.batchnorm._BatchNorm):
                part.train().momentum = None
                part.reset_running_stats()
            if hasattr(part, 'downsample'):  # a residual block
                norms = [norm for name, norm in part.named_modules() if isinstance(
                    norm, torch.nn.modules.batchnorm._BatchNorm)
                    and not name.startswith('downsample')]
                for norm in norms[-1:]:
                    norm.weight.mul_(0.2)
        preprocessing = Preprocessing.from_config(cfg)
        clips_NTHWC = torch.from_numpy(np.concatenate([
            read_clip(clip['filename'], preprocessing)[:1]
            for clip in list_split(cfg.test_dataloader, subset='val')[:2]]))
        Whole(model)(clips_NTHWC)
        last = [part for part in model.cls_head.modules()
                if isinstance(part, torch.nn.Linear)][-1]
        logits_NK = Whole(model).eval()(clips_NTHWC).log()
        last.weight.mul_(scale := 2 / logits_NK.std(dim=1).mean())
        last.bias.mul_(scale)
    torch.save(dict(state_dict=model.state_dict()), path)
    backend = TorchBackend(cfg, path)
    scores_NK = backend(clips_NTHWC.numpy())
    return backend, float(np.abs(scores_NK[0] - scores_NK[1]).max())


def measure(name: str, kinds: list[str], rounds: int, options: dict, folder: Path
            ) -> list[dict]:
    """Exports a model in several kinds; returns a row for each."""
    config, own = MODELS[name]
    config = str(next((PROJECT_ROOT / 'configs').glob(f'{config}*.py')))
    options = {**own, **options}
    if 'foundation/' in config:
        backbone = load_config(config, options).backbone
        options[f'backbones.{backbone}.pretrained'] = None
    elif 'cnn_lstm/' in config:
        options['model.backbone.pretrained'] = None
    eager, spread = write_checkpoint(config, options, folder / 'weights.pth')
    rows = []
    for kind in kinds:
        row = dict(model=name, kind=kind, clips_differ_by=spread)
        try:
            info = export(config, str(folder / 'weights.pth'), *kind.split('-'),
                          str(folder / kind), options=options, calibration_clips=8)
            row |= dict(info.parity['whole'], clips=info.parity['clips'], mb=sum(
                file.stat().st_size for file in (folder / kind).glob('model.[!j]*')) / 1e6)
            if rounds:
                width, height = info.preprocessing.size
                clip_NTHWC = np.zeros(
                    (1, info.preprocessing.num_frames, height, width, 3), np.uint8)
                exported = load(folder / kind)[1]
                pairs = [[timeit.timeit(partial(model, clip_NTHWC), number=1)
                          for model in (eager, exported)] for _ in range(rounds + 1)]
                row['eager_over_exported'] = statistics.median(a / b for a, b in pairs[1:])
        except Exception as error:  # a refusal, or a converter's: the next one is measured
            row['error'] = f'{type(error).__name__}: {error}'
        print(json.dumps(row), flush=True)
        rows.append(row)
    return rows


def format_rows(rows: list[dict]) -> str:
    """Formats a table in Markdown."""
    lines = ['| model | export | MB | largest difference | shift | eager / exported |',
             '| --- | --- | ---: | ---: | ---: | ---: |']
    for row in rows:
        if 'mb' in row:
            cells = (f'{row["mb"]:.1f}', f'{row["max_difference"]:.1g}',
                     f'{row["shift"]:.1g}', f'{row.get("eager_over_exported", 0):.2f}')
        else:
            cells = (' '.join(row['error'].split())[:150].replace('|', '/'), '', '', '')
        lines.append(f'| {row["model"]} | {row["kind"].replace("-", " ")} | '
                     f'{" | ".join(cells)} |')
    return '\n'.join(lines) + '\n'


def main() -> int:
    """Runs the command; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True, metavar='D')
    parser.add_argument('--models', nargs='+', choices=MODELS, default=list(MODELS),
                        metavar='NAME', help=f'default: all: {"; ".join(MODELS)}')
    parser.add_argument('--kinds', nargs='+', choices=KINDS, default=list(KINDS),
                        metavar='KIND', help=f'default: all: {" ".join(KINDS)}')
    parser.add_argument('--rounds', type=int, default=5, metavar='N',
                        help='pairs of timed calls; 0: no latency; default: %(default)s')
    parser.add_argument('--small', action='store_true',
                        help='frames of 64 x 64, or 112 x 112 for foundation models')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE')
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory(dir=args.out) as folder:
        write_dataset(f'{folder}/data', train_groups=3, test_groups=0, clips=1,
                      size=(96, 64), classes=(1, 2, 3), progress=False)
        options = {'load_from': None, 'data_root': f'{folder}/data', 'clip_cache': None,
                   'classes': list(HRI30_CLASSES[:3]), 'num_workers': 0,
                   'precision': 'fp32', 'split.val_groups': 1,
                   **parse_options(args.cfg_options)}
        for name in args.models:
            side = 112 if ',' in name else 64
            size = dict(input_size=(side, side)) if args.small else {}
            if size and name in SIZES:
                size[f'model.backbone.{SIZES[name]}'] = side
            with tempfile.TemporaryDirectory(dir=folder) as place:
                rows += measure(name, args.kinds, args.rounds, {**options, **size},
                                Path(place))
            (args.out / 'exports.md').write_text(format_rows(rows))
    print(format_rows(rows))
    return int(any('mb' not in row for row in rows if row['kind'].endswith('fp32')))


if __name__ == '__main__':
    sys.exit(main())
