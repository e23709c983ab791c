"""The settings of a config: type, range, unit and description of each.

This schema is the one place that knows what can be set. Configs hold the default values,
:mod:`hri30_ext.config` checks every config against it, and :func:`list_settings` makes the
table in the documentation from it.
"""

import difflib
import functools
import inspect
import math
from collections import namedtuple
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from mmengine.registry import Registry, root
from mmengine.runner import Runner
from msgspec.inspect import type_info
from torch.utils.data import DataLoader

from .errors import HRI30Error, first_cases

# Upper bounds only keep absurd numbers from the libraries below.
Positive = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Count = Annotated[int, msgspec.Meta(ge=0, le=1_000_000)]
Pixels = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
AboveZero = Annotated[float, msgspec.Meta(gt=0)]
FromZero = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
InsideOne = Annotated[float, msgspec.Meta(gt=0, lt=1)]
UpToOne = Annotated[float, msgspec.Meta(gt=0, le=1)]
BelowOne = Annotated[float, msgspec.Meta(ge=0, lt=1)]
Seed = Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
# Not a tuple: msgspec 0.22 crashes on a union of a tuple with a bounded number.
Jitter = Share | list[FromZero]


class Setting(NamedTuple):
    """What a setting can be."""

    kind: Any  # a type that msgspec.convert checks a value against
    description: str
    unit: str = ''
    table: str = ''  # the top-level dict whose keys are the choices, where there is one


#: By name. A dotted name is an entry of a dict.
SETTINGS: dict[str, Setting] = {
    # ---- Data
    'data_root': Setting(str, 'folder with train_set/, test_set/ and annotations/'),
    'classes': Setting(list[str] | None,
                       "class names in the order of their ids; None: HRI30's 30"),
    'annotation': Setting(str | None, 'names, folders, or a table or list in data_root; '
                          'None: found'),
    'group_pattern': Setting(str | None, 'regular expression with (?P<group>...), searched '
                             'in the path of a clip; None: column or folder'),
    'columns': Setting(list[str] | None, 'names of the columns of the table, in their '
                       'order; None: its header'),
    'split': Setting(dict, 'how labelled clips are divided into training and validation'),
    'split.type': Setting(Literal['group', 'random', 'file', 'paper', 'lists', 'given'],
                          'rule: whole groups, single clips (leaks), lists of names, the '
                          "paper's splits, lists in UCF-101's form, or as the data say"),
    'split.number': Setting(Literal[1, 2, 3], 'for paper and lists: which split'),
    'split.folder': Setting(str | None, 'for lists: folder of trainlist01.txt and '
                            'testlist01.txt'),
    'split.val_groups': Setting(Count | list[int], 'for group, paper and lists: how many '
                                'groups to hold out, or which; 0 (paper, lists): none'),
    'split.val_ratio': Setting(InsideOne, 'for random: share of the clips of each class'),
    'split.stratified': Setting(bool, 'for random: the same share of each class'),
    'split.train_file': Setting(str | None, 'for file: names of training clips, one a '
                                'line; None: all that val_file does not name'),
    'split.val_file': Setting(str | None, 'for file: names of validation clips'),
    'split.seed': Setting(Seed, 'of the choice of groups or clips'),
    'num_frames': Setting(Positive, 'frames of a clip that the model sees', 'frames'),
    'sampling': Setting(str, 'how frames of a clip are chosen', table='samplings'),
    'input_size': Setting(tuple[Pixels, Pixels], 'width and height that the model sees',
                          'pixels'),
    'decode_size': Setting(Pixels, 'short side that frames are decoded to', 'pixels'),
    'batch_size': Setting(Positive, 'clips of a batch, on each GPU', 'clips'),
    'num_workers': Setting(Count | None, 'decoding processes; None: all cores but one, '
                           '16 at most, and none without a GPU', 'processes'),
    'clip_cache': Setting(Literal['memmap', 'jpeg', 'auto'] | None,
                          'keep decoded clips on disk; memmap is the fastest; auto: '
                          'jpeg with a GPU and room on the disk, else None'),
    'cache_dir': Setting(str | None, 'folder of the clip cache'),
    'leak_check': Setting(bool | None, 'refuse clips that are in two splits, by name or '
                          'content'),
    'test_clips': Setting(Positive, 'samplings of a clip that a test averages', 'views'),
    'test_crops': Setting(Literal[1, 3], 'parts of a frame that a test averages; 3: the '
                          'middle and both ends, in the aspect ratio of input_size',
                          'views'),
    'test_flip': Setting(bool, 'average with the mirrored clip in tools/test.sh'),
    'failed_class': Setting(str | None, 'class of unreadable clips in the submission; '
                            'None: no submission then'),
    'certainty': Setting(InsideOne, 'of the sets of classes that a test fits on the '
                         'validation clips'),
    'input_format': Setting(Literal['NCTHW', 'NCHW'], 'NCHW for models of 2D frames'),
    # ---- Augmentation
    'flip': Setting(str | None, 'horizontal flip; None: off', table='flips'),
    'mirror_pairs': Setting(list[list[str]] | None, 'pairs of classes that a flip swaps; '
                            'other classes: by left, right and clockwise'),
    'color_jitter': Setting(dict | None, 'colour changes, the same in a whole clip; '
                            'None: off'),
    'color_jitter.brightness': Setting(Jitter, 'largest relative change, or a range'),
    'color_jitter.contrast': Setting(Jitter, 'largest relative change, or a range'),
    'color_jitter.saturation': Setting(Jitter, 'largest relative change, or a range'),
    'rand_augment': Setting(str | None, 'random changes of place and colour, the same in a '
                            'whole clip; None: off', table='rand_augments'),
    'random_crop': Setting(dict | None, 'random part of a frame; None: the whole frame'),
    'random_crop.area_range': Setting(
        tuple[AboveZero, AboveZero] | None, "share of the frame's area, from and to"),
    'random_crop.aspect_ratio_range': Setting(
        tuple[AboveZero, AboveZero], "width to height relative to the frame's"),
    'random_erasing': Setting(str | None, 'noise in a random box, which is the same in '
                              'a whole clip; None: off', table='random_erasings'),
    'repeats': Setting(Positive, 'draws of each clip in a batch, which grows by them',
                       'draws'),
    'mixing': Setting(str | None, 'mixes clips of a batch, and their labels; None: off',
                      table='mixings'),
    # ---- Schedule
    'max_epochs': Setting(Positive, 'length of the training', 'epochs'),
    'warmup_epochs': Setting(Count, 'linear warm-up of the learning rate; 0: none',
                             'epochs'),
    'lr': Setting(FromZero, 'learning rate for steps of base_batch_size clips'),
    'base_batch_size': Setting(Positive, 'clips of a step that lr is for', 'clips'),
    'scale_lr': Setting(bool | Literal['linear'], 'scale lr to the clips of a step on all '
                        'GPUs; linear: in proportion, with AdamW too'),
    'layer_decay': Setting(UpToOne | None, 'share of the rate that a layer of a '
                           'transformer has of the next one; None: off'),
    'optimizer': Setting(str, 'optimizer', table='optimizers'),
    'momentum': Setting(BelowOne | None, "of SGD; None: the optimizer's own"),
    'weight_decay': Setting(FromZero | None, "L2 penalty; None: the optimizer's own"),
    'betas': Setting(tuple[BelowOne, BelowOne] | None,
                     "of Adam and AdamW; None: the optimizer's own"),
    'decay': Setting(str, 'decay of the learning rate', table='decays'),
    'strategy': Setting(str, 'which parts learn, and when', table='strategies'),
    'cache_features': Setting(str | None, 'store features of a frozen backbone',
                              table='feature_caches'),
    'features_dir': Setting(str | None,
                            'folder of stored features; None: in the work folder'),
    'precision': Setting(str, "number format; 'auto': the fastest exact enough",
                         table='precisions'),
    'accumulate': Setting(Positive, 'batches whose gradients make one step', 'batches'),
    'clip_grad': Setting(dict | None, 'gradient clipping; None: off'),
    'clip_grad.type': Setting(Literal['norm', 'value'], 'what is clipped'),
    'clip_grad.max_norm': Setting(AboveZero, 'largest norm of the gradient'),
    'clip_grad.norm_type': Setting(AboveZero, 'p of the p-norm'),
    'clip_grad.clip_value': Setting(AboveZero, 'largest element, for type=value'),
    'label_smoothing': Setting(BelowOne, 'share of the target spread over all classes'),
    'drop_path': Setting(BelowOne, 'of transformers: share of the clips that skip the last '
                         'block; less in blocks before'),
    'head_std': Setting(AboveZero, 'of transformers: standard deviation of the weights of '
                        'a new head'),
    'batch_norm': Setting(str | None, 'frozen: keep the loaded statistics',
                          table='batch_norms'),
    'sync_bn': Setting(Literal['torch', 'mmcv'] | None,
                       'torch: BatchNorm over the clips of all GPUs'),
    'class_weights': Setting(str | None, 'balanced: inverse to the clips of a class',
                             table='class_weightings'),
    'weight_averaging': Setting(str | None, 'average of the weights over the last steps',
                                table='weight_averagings'),
    'seed': Setting(Seed | None, 'of weights, order and augmentation; None: random'),
    'deterministic': Setting(bool, 'the same numbers twice, slower'),
    # ---- Run
    'load_from': Setting(str | None, 'weights to start from, a file or a URL; None: none'),
    'start': Setting(str, 'weights to start from, by name', table='starts'),
    'early_stopping': Setting(dict | None, 'end without an improvement; None: off'),
    'early_stopping.monitor': Setting(str, 'validation metric'),
    'early_stopping.rule': Setting(Literal['greater', 'less'] | None,
                                   'which direction is better; None: from the name'),
    'early_stopping.min_delta': Setting(FromZero, 'smallest improvement that counts'),
    'early_stopping.patience': Setting(Positive, 'wait for an improvement', 'epochs'),
    'save_best': Setting(str | None, 'metric of the best checkpoint; None: no best one'),
    'snapshot_interval': Setting(Positive | None, 'keep the checkpoint of every Nth epoch; '
                                 'None: of no epoch', 'epochs'),
    'tracker': Setting(str | None, 'further log of the scalars', table='trackers'),
    'max_skipped': Setting(Share, 'share of the training clips that may be unreadable'),
    'report': Setting(bool, 'write report.html into each result folder'),
    'peer_timeout': Setting(AboveZero, 'silence after which a process counts as lost',
                            'seconds'),
}

#: Settings that configs of other models refuse.
OF_SOME_MODELS = frozenset({'drop_path', 'head_std'})

#: Dicts of choices; a config can add to them and change their entries.
TABLES = frozenset(setting.table for setting in SETTINGS.values() if setting.table)

#: Names that former scripts, other projects and people use for a setting, in lower case.
OTHER_NAMES = {
    'num_epochs': 'max_epochs', 'initial_lr': 'lr', 'learning_rate': 'lr',
    'base_lr': 'lr', 'lr_scheduler': 'decay', 'scheduler': 'decay',
    'target_frames': 'num_frames', 'clip_len': 'num_frames', 'frame_size': 'input_size',
    'resize': 'input_size', 'dataset_path': 'data_root',
    'early_stopping_patience': 'early_stopping.patience',
    'patience': 'early_stopping.patience', 'val_split': 'split.val_ratio',
    'val_ratio': 'split.val_ratio', 'val_groups': 'split.val_groups',
    'grad_clip': 'clip_grad', 'gradient_clip': 'clip_grad.max_norm',
    'ema': 'weight_averaging', 'amp': 'precision', 'pretrained': 'load_from',
    'checkpoint': 'load_from', 'freeze': 'strategy', 'augmentation': 'color_jitter',
    'use_gpu': '--device', 'gpu_id': '--device',
}

#: Top-level names that are no settings: mmengine's, mmaction2's, and what is derived.
_OTHER_TOP_LEVEL = frozenset(inspect.signature(Runner.__init__).parameters) | TABLES | {
    'ann_file_test', 'ann_file_train', 'ann_file_val', 'auto_scale_lr', 'autocast',
    'custom_imports', 'data_root_val', 'dataset_type', 'default_scope', 'file_client_args',
    'find_unused_parameters', 'model_wrapper_cfg', 'num_classes', 'persistent_workers',
    'pin_memory', 'runner_type', 'stages',
    'test_pipeline', 'train_pipeline', 'val_pipeline', 'vis_backends', 'warmup'}

#: Entries of a dict with ``type`` that mmengine and mmcv take out before they build it.
_TAKEN_OUT = frozenset({'type', 'by_epoch', 'constructor', 'convert_to_iter_based',
                        'paramwise_cfg', 'priority', 'requires_grad'})

#: The class that color_jitter.* describes.
_JITTER = 'ClipColorJitter'

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_LOADER_ENTRIES = frozenset(inspect.signature(DataLoader.__init__).parameters) | {
    'dataset', 'num_batch_per_epoch', 'indices'}


# ---- Values -----------------------------------------------------------------------------


def _describe(info) -> str:
    """Describes a type of msgspec.inspect, such as 'a whole number from 1, or None'."""
    name = type(info).__name__
    if name == 'UnionType':
        return ', or '.join(sorted(map(_describe, info.types), key='None'.__eq__))
    if name == 'LiteralType':
        return ' or '.join(map(repr, info.values))
    if name == 'TupleType':
        return f'{len(info.item_types)} values, each {_describe(info.item_types[0])}'
    if name == 'ListType':
        return 'a list of ' + {
            'FloatType': 'numbers', 'IntType': 'whole numbers', 'StrType': 'names',
            'ListType': 'lists of names'}[type(info.item_type).__name__]
    if name in ('IntType', 'FloatType'):
        low = (f' from {info.ge}' if info.ge is not None else
               f' above {info.gt}' if info.gt is not None else '')
        high = (f' to {info.le:,}' if info.le is not None else
                f'{low and " and"} below {info.lt:,}' if info.lt is not None else '')
        return ('a whole number' if name == 'IntType' else 'a number') + low + high
    return {'BoolType': 'True or False', 'StrType': 'text', 'DictType': 'a dict',
            'NoneType': 'None'}[name]


def _check(name: str, value) -> None:
    setting = SETTINGS[name]
    checked = value
    if isinstance(value, str):  # msgspec refuses the undecodable bytes of a file name
        checked = value.encode('utf-8', 'replace').decode()
    try:
        fits = _is_finite(msgspec.convert(checked, setting.kind))
    except (msgspec.ValidationError, OverflowError, RecursionError, UnicodeEncodeError):
        fits = False
    if not fits:
        unit = f' ({setting.unit})' if setting.unit else ''
        raise HRI30Error(
            f'{name}={_shorten(value)}: expected {_describe(type_info(setting.kind))}{unit}'
            f'; {setting.description}.\nSet it in the config, or with '
            f'--cfg-options {name}=VALUE.')


def _shorten(value) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f'{text[:100]}...'


def _is_finite(value) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def check_values(cfg: Mapping, skip=lambda value: False) -> None:
    """Checks the values of all settings of a config.

    Args:
        cfg (Mapping): Top-level settings.
        skip (Callable): Whether a value is not checked, as it is not known yet.

    Raises:
        HRI30Error: a wrong type, or a number outside its range.
    """
    for name in (*SETTINGS, *TABLES):
        of, _, entry = name.partition('.')
        values = cfg.get(of, cfg) if entry else cfg
        entry = entry or of
        if not isinstance(values, Mapping) or entry not in values or skip(values[entry]):
            continue
        if name in SETTINGS:
            # The schema knows the entries of this class alone.
            if of != 'color_jitter' or values.get('type', _JITTER) == _JITTER:
                _check(name, values[entry])
        elif not isinstance(values[entry], Mapping):
            raise HRI30Error(f'{name}={_shorten(values[entry])}: expected a dict of '
                             'choices, by name.\nSet it in the config.')


# ---- Names ------------------------------------------------------------------------------


def check_names(cfg: Mapping, referenced: set[str]) -> None:
    """Refuses names that nothing reads.

    Args:
        cfg (Mapping): A whole config, without references.
        referenced (set[str]): Top-level names that references of the config name.

    Raises:
        HRI30Error: unknown names; each with the nearest known one.
    """
    known = {name for name in SETTINGS if '.' not in name} - OF_SOME_MODELS
    known |= _OTHER_TOP_LEVEL | referenced
    unknown = [_explain(name, name, known) for name in cfg
               if isinstance(name, str) and not name.startswith('_') and name not in known]
    # Settings and what is referred to come first: other parts repeat their mistakes.
    settings = {name for name in cfg if name in SETTINGS or name in TABLES}
    for names in (settings, cfg.keys() & referenced - settings,
                  cfg.keys() - settings - referenced):
        if not unknown:
            unknown = [line for name in sorted(names)
                       for line in _find_unknown(cfg[name], name)]
    if unknown:
        count = f'{len(unknown)} unknown settings' if unknown[1:] else 'Unknown setting'
        raise HRI30Error(f'{count}:\n{first_cases(unknown, limit=10)}\nRename or remove '
                         'what is unknown; a name of your own begins with an underscore.')


def _explain(path: str, name: str, known) -> str:
    """Returns a line on an unknown name, with the nearest known one."""
    if path in OF_SOME_MODELS:
        return f'{path}: the model of this config has none'
    other = OTHER_NAMES.get(name.lower()) if path == name else None
    if other or name.lower() in known:
        return f'{path} is called {other or name.lower()} here'
    near = difflib.get_close_matches(name.lower(), sorted(known), n=1, cutoff=0.6)
    if near:
        return f'{path}: the nearest known name is {near[0]}'
    return f'{path}: ' + (f'expected one of {", ".join(sorted(known))}'
                          if len(known) <= 12 else 'no known name is near')


def _find_unknown(value, path: str) -> Iterator[str]:
    """Yields a line for each unknown name within a value of a config."""
    if isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _find_unknown(item, f'{path}[{i}]')
    if not isinstance(value, Mapping):
        return
    known = known_entries(path, value)
    for name, item in value.items():
        if not isinstance(name, str) or name.startswith('_'):
            continue
        if known is not None and name not in known:
            yield _explain(f'{path}.{name}', name, known)
        else:
            yield from _find_unknown(item, f'{path}.{name}')


def known_entries(path: str, value: Mapping) -> frozenset[str] | None:
    """Returns the names that a dict of a config can have; None: any.

    Args:
        path (str): Where the dict is, such as ``split`` or ``model.backbone``.
        value (Mapping): The dict.
    """
    if path in _LOADERS:
        return _LOADER_ENTRIES
    if path in SETTINGS and path not in ('color_jitter', 'early_stopping'):
        return frozenset(name.removeprefix(f'{path}.') for name in SETTINGS
                         if name.startswith(f'{path}.'))
    kind = value.get('type')
    if isinstance(kind, str):
        takes = [accepted_arguments(found) for found in _find_registered(kind)]
    else:
        takes = [accepted_arguments(kind)] if callable(kind) else []
    # Registries share names: an entry that one of these classes has is known.
    if not takes or None in takes:
        return None
    return frozenset.union(_TAKEN_OUT, *takes)


def _find_registered(name: str) -> list:
    """Finds the classes and functions of a name in all registries."""
    import mmaction.registry
    import mmcv.transforms  # noqa: F401  (registers its classes)
    name = name.rsplit('.', 1)[-1] if name.split('.')[0] in ('mmaction', 'mmcv') else name
    return [registry.module_dict[name] for module in (root, mmaction.registry)
            for registry in vars(module).values()
            if isinstance(registry, Registry) and name in registry.module_dict]


@functools.cache
def accepted_arguments(kind) -> frozenset[str] | None:
    """Returns the arguments that a class or function takes; None where it takes any.

    Where a constructor takes ``**kwargs``, the arguments of its bases count as well.
    """
    constructors = [vars(base)['__init__'] for base in kind.__mro__ if '__init__' in vars(
        base) and base is not object] if isinstance(kind, type) else [kind]
    names: set[str] = set()
    for constructor in constructors:
        try:
            parameters = inspect.signature(constructor).parameters.values()
        except (TypeError, ValueError):  # of a C extension
            return None
        names.update(one.name for one in parameters)
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            return frozenset(names)
    return None if constructors else frozenset()


# ---- The table --------------------------------------------------------------------------


#: A line of the table of settings; all are texts.
Row = namedtuple('Row', 'name default kind unit description')

def list_settings(cfg: Mapping) -> list[Row]:
    """Lists all settings, with the defaults and the choices of a config with references."""
    rows = []
    for name, setting in SETTINGS.items():
        if name in OF_SOME_MODELS and name not in cfg:
            continue
        of, _, entry = name.partition('.')
        value = cfg.get(of)
        if entry:
            value = (value or {}).get(entry)
        kind = _describe(type_info(setting.kind))
        if setting.table:
            choices = ', '.join(cfg.get(setting.table) or ())
            kind = kind.replace('text', f'one of {choices}')
        default = '' if isinstance(value, Mapping) and not setting.table else repr(value)
        rows.append(Row(name, default, kind, setting.unit, setting.description))
    return rows
