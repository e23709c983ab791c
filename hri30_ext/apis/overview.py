"""What a training uses, and what can be set: the tables of ``tools/train.sh``."""

from collections.abc import Mapping, Sequence

from mmengine.config import Config
from mmengine.dist import get_world_size
from rich.console import Console
from rich.table import Table

from .. import modules  # noqa: F401  (first: it mends what the others import)
from ..config import load_config, unresolved
from ..hardware import unwrap
from ..settings import list_settings
from ..transforms.flip import mirrored_labels
from .common import describe_data, describe_device

#: The config that all others are compared with.
PRIMITIVE = 'configs/slowonly/slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py'


def print_settings(config: str | None = None) -> None:
    """Prints all settings, with the defaults of a config; see :func:`.list_settings`."""
    table = Table('setting', 'default', 'values', 'meaning', box=None, pad_edge=False)
    for column in table.columns:
        column.overflow = 'fold'
    for row in list_settings(unresolved(load_config(config or PRIMITIVE))):
        unit = f' ({row.unit})' if row.unit else ''
        table.add_row(row.name, row.default, row.kind + unit, row.description)
    Console(markup=False, highlight=False).print(table)


def describe_training(cfg: Config, runner, splits: Mapping[str, Sequence[dict]],
                      changed: Mapping) -> str:
    """Describes what takes effect in a training: lines of names and values, and a warning
    about a long warm-up.

    Args:
        cfg (Config): Resolved.
        runner (Runner): With the model.
        splits (Mapping[str, Sequence[dict]]): Clips, by split.
        changed (Mapping): The options that differ from the config.
    """
    rows = [
        ('data', describe_data(cfg)),
        ('split', f'{cfg.split.get("type", "group")}: ' + ', '.join(
            f'{name} {len(clips)} clips (groups {_list_groups(clips)})'
            for name, clips in splits.items())),
        ('model', _describe_model(cfg, runner)),
        ('start', _describe_start(cfg)),
        ('input', f'{cfg.num_frames} frames of {" x ".join(map(str, cfg.input_size))}'),
        ('batch', _describe_batch(cfg)),
        ('optimizer', _describe_optimizer(cfg)),
        ('schedule', _describe_schedule(cfg)),
        ('augmentation', _describe_augmentation(cfg)),
        ('precision', _describe_precision(cfg)),
        ('device', describe_device()),
        ('clip cache', _describe_cache(cfg)),
        ('differs from the config', ', '.join(
            f'{name}={str(value)[:80]}' for name, value in changed.items()) or 'nothing')]
    width = max(len(name) for name, _ in rows)
    lines = ['What is trained, and how:', *(
        f'{name:{width}}  ' + text.replace('\n', f'\n{"":{width}}  ')
        for name, text in rows)]
    if 3 * cfg.warmup_epochs > cfg.max_epochs:
        lines.append(f'warning: warmup_epochs={cfg.warmup_epochs} is more than a third of '
                     f'max_epochs={cfg.max_epochs}. Set '
                     f'warmup_epochs={cfg.max_epochs // 3}.')
    return '\n'.join(lines)


def _list_groups(clips: Sequence[dict]) -> str:
    return ', '.join(map(str, sorted({clip['group'] for clip in clips})))[:80]


def _describe_model(cfg: Config, runner) -> str:
    model = unwrap(runner.model)
    count = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    kind = f'{type(model.backbone).__name__} {cfg.model.backbone.get("depth", "")}'.strip()
    return f'{kind}, {count:.1f} M parameters, {len(cfg.classes)} classes'


def _describe_start(cfg: Config) -> str:
    if cfg.resume:
        return f'resumes from {cfg.load_from}'
    backbone = cfg.model.backbone
    return (cfg.get('load_from') or backbone.get('pretrained')
            or (backbone.get('init_cfg') or {}).get('checkpoint') or 'random weights')


def _describe_batch(cfg: Config) -> str:
    processes = get_world_size()
    batch = cfg.train_dataloader.batch_size * processes * cfg.accumulate
    text = (f'{cfg.batch_size} clips x {processes} processes x {cfg.accumulate} '
            f'accumulated = {batch} clips a step')
    if batch != cfg.base_batch_size and not cfg.scale_lr:
        text += f'; lr is for {cfg.base_batch_size} (scale_lr=True adapts it)'
    return text


def _describe_optimizer(cfg: Config) -> str:
    optimizer, clip = cfg.optim_wrapper.optimizer, cfg.clip_grad
    parts = [optimizer.type, *(f'{name} {optimizer[name]}' for name in (
        'lr', 'momentum', 'betas', 'weight_decay') if name in optimizer)]
    parts.append(f'gradients clipped at {clip.get("max_norm", clip.get("clip_value"))}'
                 if clip else 'gradients not clipped')
    if cfg.get('layer_decay'):
        parts.append(f'layer decay {cfg.layer_decay}')
    return ', '.join([*parts, f'strategy {cfg.strategy}'])


def _describe_schedule(cfg: Config) -> str:
    stopping = cfg.early_stopping
    return (f'{cfg.max_epochs} epochs, {cfg.warmup_epochs} of warm-up, {cfg.decay} decay, '
            + (f'ends after {stopping.get("patience", 5)} epochs without a better '
               f'{stopping.monitor}' if stopping else 'no early stopping'))


def _describe_augmentation(cfg: Config) -> str:
    parts = [name for name in ('random_crop', 'color_jitter') if cfg[name]]
    parts += [f'{name} {cfg[name]}' for name in (
        'flip', 'rand_augment', 'random_erasing', 'mixing') if cfg.get(name)]
    if cfg.get('repeats', 1) > 1:
        parts.append(f'{cfg.repeats} draws of each clip in a batch')
    lines = [', '.join(parts) or 'none']
    pairs, alone = mirrored_labels(cfg.classes, cfg.get('mirror_pairs'))
    steps = {step['type'] for step in cfg.train_dataloader.dataset.pipeline}
    if 'LabelAwareFlip' in steps:
        lines += [f'a flip swaps {cfg.classes[one]} and {cfg.classes[other]}'
                  for one, other in pairs.items() if one < other]
        lines += [f'not flipped, as its mirror image is no class: {cfg.classes[label]}'
                  for label in sorted(alone)]
    elif 'Flip' in steps and (pairs or alone):
        lines.append(f'a flip gives clips of {len(pairs) + len(alone)} left/right classes '
                     'a wrong label')
    return '\n'.join(lines)


def _describe_precision(cfg: Config) -> str:
    name = next((name for name, wrapper in cfg.precisions.items()
                 if wrapper == cfg.optim_wrapper.type), cfg.precision)
    return f'{name} (auto)' if cfg.precision == 'auto' else name


def _describe_cache(cfg: Config) -> str:
    form = next((step.cache for step in cfg.train_dataloader.dataset.pipeline
                 if step['type'] == 'ClipInit'), None)
    return f'{form}, {cfg.cache_dir}; delete the folder at any time' if form else 'none'
