"""Configs whose settings live at the top, in one place.

A config names its settings at the top (``num_frames = 8``) and refers to them where they
are used (``clip_len='${num_frames}'``). A reference is replaced by the value that it names,
once, after inheritance and ``--cfg-options``, so that a changed setting reaches the loaders
and the head. A setting that is changed later is refused when a run starts.

- ``'${a}'``: the setting ``a``.
- ``'${table[a]}'``: the entry of ``table``, a top-level dict, that the setting ``a`` names:
  one word (``decay = 'step'``) switches a whole part. None where ``a`` is None.
- ``'${table[a].b}'`` and ``'${a.b}'``: the entry ``b`` of either; None of None.

A reference in a list that becomes None is left out of the list: ``flip = None`` removes the
step from the pipeline.

Some values are derived: ``num_classes`` from ``classes``, ``precision = 'auto'``,
``num_workers = None`` and ``clip_cache = 'auto'`` from the machine, ``autocast`` from
``precision``, ``persistent_workers`` from ``num_workers``, ``pin_memory`` from the device,
no ``warmup`` from ``warmup_epochs = 0``, and ``momentum``, ``weight_decay`` and ``betas``
replace those of the chosen optimizer.
"""

import argparse
import copy
import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config, ConfigDict, DictAction
from mmengine.device import get_device

from . import compat
from .errors import HRI30Error, first_cases
from .hardware import best_precision, default_clip_cache, default_num_workers
from .names import HRI30_CLASSES, PROJECT_ROOT, canonical_name
from .settings import SETTINGS, check_names, check_values, known_entries
from .utils.reading import read_classes

#: Settings that are paths.
PATHS = ('data_root', 'cache_dir', 'features_dir', 'split.folder', 'split.train_file',
         'split.val_file')

# Values that are no list, tuple or quoted text: with a slash, or with spaces alone.
_TEXT = re.compile(r'(?![\[({\'"]).*[/\\].*|[^\[\](){}\'"]*\s[^\[\](){}\'"]*', re.DOTALL)

_REFERENCE = re.compile(r'\$\{(?P<name>\w+)(?:\[(?P<choice>\w+)\])?(?:\.(?P<entry>\w+))?\}')


# ---- References -------------------------------------------------------------------------


def _match(value) -> re.Match | None:
    return _REFERENCE.fullmatch(value) if isinstance(value, str) else None


def _list_references(value) -> list[re.Match]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [match for item in value for match in _list_references(item)]
    match = _match(value)
    return [match] if match else []


def has_references(value) -> bool:
    """Returns whether a config, or a part of one, contains references."""
    return bool(_list_references(value))


def _list_referenced(value) -> set[str]:
    """Returns the top-level names that the references of a config name."""
    return {match[group] for match in _list_references(value)
            for group in ('name', 'choice') if match[group]}


def _look_up(reference: re.Match, settings: Mapping, path: str):
    """Returns the value that a reference names, which may be a reference again."""
    def setting(name):
        if name not in settings:
            raise HRI30Error(
                f'config: {path} refers to ${{{name}}}, and there is no such setting.\n'
                f'Expected a top-level variable {name} in the config or its bases.')
        return settings[name]

    def entry(table, key, of):
        if not (isinstance(table, Mapping) and isinstance(key, str | int) and key in table):
            known = ', '.join(map(str, table)) if isinstance(table, Mapping) else 'none'
            if of in SETTINGS and 'None' in str(SETTINGS[of].kind):
                known += ', None'
            raise HRI30Error(f'{of}={key!r}: no such choice.\nExpected one of: {known} (or '
                             f'add it to {reference["name"]}).')
        return table[key]

    value = setting(reference['name'])
    if reference['choice']:
        choice = setting(reference['choice'])
        value = None if choice is None else entry(value, choice, reference['choice'])
    if reference['entry'] and value is not None:
        value = entry(value, reference['entry'], path)
    return value


def _replace(value, settings: Mapping, path: str = '', within: tuple = ()):
    """Returns a value with all references replaced."""
    match = _match(value)
    if match:
        if value in within:
            raise HRI30Error(f'config: {" -> ".join((*within, value))} refers to itself.')
        return _replace(_look_up(match, settings, path), settings, path, (*within, value))
    if isinstance(value, Mapping):
        return {key: _replace(item, settings, f'{path}.{key}' if path else str(key),
                              within) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [(item, _replace(item, settings, f'{path}[{i}]', within))
                 for i, item in enumerate(value)]
        return type(value)(replaced for item, replaced in items
                           if replaced is not None or not _match(item))
    return value


# ---- Resolving --------------------------------------------------------------------------


def _derive(cfg: Mapping) -> dict:
    """Returns what references can name: top-level values and derived ones."""
    settings = dict(cfg)
    if 'classes' in settings:
        settings['classes'] = _list_classes(settings['classes'])
        num_classes = settings.setdefault('num_classes', len(settings['classes']))
        if num_classes != len(settings['classes']):
            raise HRI30Error(
                f'num_classes={num_classes}, but classes has {len(settings["classes"])} '
                'names.\nRemove num_classes: it follows from classes.')
    check_values(settings, skip=has_references)
    if settings.get('warmup_epochs') == 0:  # mmengine refuses a warm-up of no length
        settings['warmup'] = None
    if settings.get('precision') == 'auto':
        settings['precision'] = best_precision()
    settings['autocast'] = settings.get('precision', 'fp32') != 'fp32'
    if 'num_workers' in settings:
        if settings['num_workers'] is None:
            settings['num_workers'] = default_num_workers()
        settings['persistent_workers'] = settings['num_workers'] != 0
        settings['pin_memory'] = get_device() == 'cuda'
    if settings.get('clip_cache') == 'auto':
        settings['clip_cache'] = default_clip_cache(settings.get('cache_dir'))
    _set_up_optimizer(settings)
    return settings


def _list_classes(classes) -> list[str]:
    if isinstance(classes, str) and classes.endswith(('.txt', '.json')):
        classes = read_classes(PROJECT_ROOT / Path(classes).expanduser())
    if isinstance(classes, str):  # --cfg-options classes=Wave
        classes = [classes]
    if not isinstance(classes, list | tuple | None):
        raise HRI30Error(f'classes={classes!r}: expected a list of names, or None for '
                         'those of HRI30.')
    classes = [canonical_name(str(name)) for name in classes or HRI30_CLASSES]
    repeated = sorted({name for name in classes if classes.count(name) > 1})
    if repeated:
        raise HRI30Error('classes: each name can be listed once, found repeated\n'
                         + first_cases(repeated))
    return classes


def _set_up_optimizer(settings: dict) -> None:
    """Gives the chosen optimizer the settings that are not None."""
    choice, table = settings.get('optimizer'), settings.get('optimizers')
    for name in ('momentum', 'weight_decay', 'betas'):
        value = settings.get(name)
        if value is None or not isinstance(table, Mapping) or choice not in table:
            continue
        takes = {key: known_entries('', entry) or [name] for key, entry in table.items()}
        if name not in takes[choice]:
            raise HRI30Error(
                f'{name}={value}: optimizer={choice} has no {name}.\nExpected {name}=None, '
                f'or optimizer={" or ".join(key for key in takes if name in takes[key])}.')
        table = {**table, choice: {**table[choice], name: value}}
    if table is not None:
        settings['optimizers'] = table


def resolve(source: Mapping) -> dict:
    """Replaces the references of a config and checks its settings.

    Args:
        source (Mapping): A whole config, bases merged, with references.

    Returns:
        dict: The config without references; shares nothing with ``source``.

    Raises:
        HRI30Error: an unknown setting, a wrong value, a reference that names no setting, or
            settings that contradict each other.
    """
    settings = _derive(source)
    derived = {name: settings[name] for name in ('classes', 'num_workers', 'optimizers')
               if name in source}
    resolved = _replace({**source, **derived}, settings)
    check_values(resolved)
    check_names(resolved, _list_referenced(source))
    return resolved


def unresolved(cfg: Config) -> Config:
    """Returns a copy of a config with its references, as :meth:`Config.dump` can write it.

    The copy of a config without references is equal to it.
    """
    copied = copy.deepcopy(cfg)
    object.__setattr__(copied, '_cfg_dict',
                       ConfigDict(vars(copied).pop('_source', copied._cfg_dict)))
    return copied


def refuse_late_changes(cfg: Config) -> None:
    """Refuses settings that were changed after a config was loaded.

    The parts of the config that refer to a setting have its former value.

    Raises:
        HRI30Error: names the changed settings.
    """
    source = vars(cfg).get('_source')
    if source is None:
        return
    resolved = resolve(source)
    changed = [name for name in sorted(_list_referenced(source))
               if cfg.get(name) != resolved.get(name)]
    if changed:
        raise HRI30Error(
            f'{cfg.filename or "config"}: changed after it was loaded: '
            f'{", ".join(changed)}.\nThe parts that refer to these settings would not '
            'follow. Set them in the file, with --cfg-options, or in load_config.')


# ---- Loading ----------------------------------------------------------------------------


def find_config(path: str) -> Path:
    """Finds a config, relative to the current folder or to the clone.

    Raises:
        HRI30Error: no such file; names the configs with the nearest names first.
    """
    for candidate in (Path(path).expanduser(), PROJECT_ROOT / path):
        if candidate.is_file():
            return candidate.resolve()
    known = [str(file.relative_to(PROJECT_ROOT))
             for file in sorted((PROJECT_ROOT / 'configs').glob('*/*.py'))
             if file.parent.name != '_base_']
    known = difflib.get_close_matches(str(path), known, len(known), cutoff=0)
    raise HRI30Error(f'{path}: no such config.\nConfigs with similar names:\n'
                     + first_cases(known, limit=8))


def load_config(path: str, options: dict | None = None) -> Config:
    """Loads a config; options override HRI30_ROOT, which overrides the config.

    Args:
        path (str): Relative to the current folder or to the clone.
        options (dict, optional): Of :func:`parse_options`; a relative path in them is
            relative to the current folder, one in the config to the clone.

    Returns:
        Config: Checked, with absolute paths and without references; :func:`unresolved`
        returns it with them. Its attribute ``changed`` has the options that differ from
        the file.

    Raises:
        HRI30Error: no such config, a syntax error in it, an unknown setting, a wrong value,
            a reference that names no setting, or settings that contradict each other.
    """
    compat.apply()
    file = find_config(path)
    try:
        cfg = Config.fromfile(str(file))
    except HRI30Error:
        raise
    except Exception as error:
        line = getattr(error, 'lineno', None)
        raise HRI30Error(
            f'{file}: not a readable config{f", line {line}" if line else ""} '
            f'({type(error).__name__}: {error}).\nExpected an mmengine config in Python, '
            'as in configs/slowonly.') from error
    source = unresolved(cfg)
    if 'model' not in source:
        raise HRI30Error(f'{file}: not a complete config: it has no model.\nChoose one '
                         'outside of configs/_base_.')
    options = dict(options or {})
    if os.environ.get('HRI30_ROOT'):
        options.setdefault('data_root', os.environ['HRI30_ROOT'])
    changed = {name: value for name, value in options.items()
               if _look_inside(source._cfg_dict, name) != value}
    for name in PATHS:
        if isinstance(options.get(name.split('.')[0]), Mapping):
            continue  # a whole split counts as it is given
        value = options.get(name, _look_inside(source._cfg_dict, name))
        if value and not has_references(value) and not isinstance(value, dict | list):
            base = Path.cwd() if name in options else PROJECT_ROOT
            options[name] = os.path.realpath(base / os.path.expanduser(str(value)))
    merge_options(source, options)
    cfg = Config(source._cfg_dict, cfg.text, file)
    object.__setattr__(cfg, 'changed', changed)  # not a setting
    return cfg


def merge_options(source: Config, options: dict) -> None:
    """Merges options into a config with references.

    Raises:
        HRI30Error: a name that does not fit the config.
    """
    try:
        source.merge_from_dict(options)
    except Exception as error:
        raise HRI30Error(
            f'--cfg-options {", ".join(map(str, options))[:200]}: {type(error).__name__}: '
            f'{error}.\nExpected names and values that fit '
            f'{Path(source.filename or "the config").name}.') from error


def _look_inside(values, name: str):
    """Returns the value that a dotted name has in a config; None if there is none."""
    for key in name.split('.'):
        if isinstance(values, list | tuple) and key.isdigit() and int(key) < len(values):
            values = values[int(key)]
        else:
            values = values.get(key) if isinstance(values, Mapping) else None
    return values


def parse_options(pairs: list[str]) -> dict:
    """Parses ``--cfg-options`` as mmengine does, but keeps paths whole.

    mmengine's ``DictAction`` drops every space and splits at commas. A value with a slash
    that does not begin with a bracket or a quote is kept as it is, as is one with a space
    and without brackets or quotes.

    Raises:
        HRI30Error: an item without ``=``, or a value that cannot be parsed.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument('--options', nargs='*', action=DictAction)
    options = {}
    for pair in pairs:
        key, equals, value = pair.partition('=')
        if not key or not equals:
            raise HRI30Error(f'--cfg-options {pair}: expected KEY=VALUE.')
        if _TEXT.fullmatch(value):
            options[key] = value
            continue
        try:
            # With the equals sign, an item can begin with a dash.
            options.update(parser.parse_args([f'--options={pair}']).options)
        except (ValueError, AssertionError, RecursionError) as error:
            raise HRI30Error(f'--cfg-options {pair[:200]}: {error}') from error
    return options
