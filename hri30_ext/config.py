"""What to set is set in one place: settings, and references to them.

A config names its settings at the top (``num_frames = 8``) and refers to them
where they are used (``clip_len='${num_frames}'``). References are resolved
after inheritance and ``--cfg-options``, so that a changed setting reaches the
built loaders and head. A reference becomes what it names, with its type:

- ``'${a}'``: the setting ``a``.
- ``'${table[a]}'``: the entry of ``table``, a top-level dict, that the setting
  ``a`` names: how one word (``decay = 'step'``) switches a whole part. None
  where ``a`` is None.
- ``'${table[a].b}'`` and ``'${a.b}'``: the entry ``b`` of either; None of None.

In a list, a reference that becomes None is left out: ``flip = None`` takes the
step out of the pipeline.

Some settings are derived: ``num_classes`` from ``classes``, ``precision = 'auto'`` and
``num_workers = None`` from the machine, ``autocast`` from ``precision``,
``persistent_workers`` from ``num_workers``, no ``warmup`` from ``warmup_epochs = 0``.
"""

import argparse
import os
import re
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config, ConfigDict, DictAction

from .errors import HRI30Error, first_cases
from .hardware import best_precision, default_num_workers
from .names import HRI30_CLASSES, canonical_name

#: The clone that this package lies in; paths in configs are relative to it.
PROJECT_ROOT = Path(__file__).resolve().parent.parent

_MAX_OPTION = 10_000  # characters; mmengine parses lists in the square of their length

_REFERENCE = re.compile(r'\$\{(?P<name>\w+)(?:\[(?P<choice>\w+)\])?(?:\.(?P<entry>\w+))?\}')


def _settings(cfg: Mapping) -> dict:
    """Returns what references may name: top-level keys and derived values."""
    settings = dict(cfg)
    if 'classes' in settings:
        classes = settings['classes']
        if isinstance(classes, str):  # --cfg-options classes=Wave
            classes = [classes]
        if not isinstance(classes, list | tuple | None):
            raise HRI30Error(f'classes={classes!r}: expected a list of names, or None for '
                             'those of HRI30.')
        classes = [canonical_name(str(name)) for name in classes or HRI30_CLASSES]
        repeated = sorted({name for name in classes if classes.count(name) > 1})
        if repeated:
            raise HRI30Error('classes: a name may stand once only, found more of\n'
                             + first_cases(repeated))
        settings['classes'] = classes
        found = settings.get('num_classes', len(classes))
        if found != len(classes):
            raise HRI30Error(
                f'num_classes={found}, but classes has {len(classes)} names.\n'
                'Leave num_classes out: it follows from classes.')
        settings['num_classes'] = len(classes)
    if settings.get('warmup_epochs') == 0:  # mmengine refuses a warm-up of no length
        settings['warmup'] = None
    if settings.get('precision') == 'auto':
        settings['precision'] = best_precision()
    settings['autocast'] = settings.get('precision', 'fp32') != 'fp32'
    if 'num_workers' in settings:
        if settings['num_workers'] is None:
            settings['num_workers'] = default_num_workers()
        if not isinstance(settings['num_workers'], int) or settings['num_workers'] < 0:
            raise HRI30Error(f'num_workers={settings["num_workers"]!r}: expected a number '
                             'of processes, 0 for none, or None for what this machine has.')
        settings['persistent_workers'] = settings['num_workers'] > 0
    return settings


def _look_up(reference: re.Match, settings: Mapping, path: str):
    """Returns what a reference names, not yet resolved itself."""
    def setting(name):
        if name not in settings:
            raise HRI30Error(
                f'config: {path} refers to ${{{name}}}, and there is no such setting.\n'
                f'Expected a top-level variable {name} in the config or its bases.')
        return settings[name]

    def entry(table, key, of):
        if not isinstance(table, Mapping) or key not in table:
            known = ', '.join(map(str, table)) if isinstance(table, Mapping) else 'none'
            raise HRI30Error(
                f'config: {of}={key!r}: no such choice.\n'
                f'Expected one of: {known} (or add it to {reference["name"]}).')
        return table[key]

    value = setting(reference['name'])
    if reference['choice']:
        chosen = setting(reference['choice'])
        value = None if chosen is None else entry(value, chosen, reference['choice'])
    if reference['entry'] and value is not None:
        value = entry(value, reference['entry'], path)
    return value


def _resolve(value, settings: Mapping, path: str = '', within: tuple = ()):
    if isinstance(value, str):
        reference = _REFERENCE.fullmatch(value)
        if reference is None:
            return value
        if value in within:
            raise HRI30Error(f'config: {" -> ".join((*within, value))} refers to itself.')
        return _resolve(_look_up(reference, settings, path), settings, path,
                        (*within, value))
    if isinstance(value, Mapping):
        return {key: _resolve(item, settings, f'{path}.{key}' if path else str(key),
                              within) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [(item, _resolve(item, settings, f'{path}[{i}]', within))
                 for i, item in enumerate(value)]
        return type(value)(resolved for item, resolved in items
                           if resolved is not None or not _is_reference(item))
    return value


def _is_reference(value) -> bool:
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None


def _has_reference(value) -> bool:
    if isinstance(value, str):
        return _is_reference(value)
    if isinstance(value, Mapping):
        return any(map(_has_reference, value.values()))
    return isinstance(value, list | tuple) and any(map(_has_reference, value))


def resolve_settings(cfg: Config) -> Config:
    """Replaces every reference by the setting that it names.

    Args:
        cfg (Config): A config, with its options merged.

    Returns:
        Config: The same, without references; the very same object where there
        were none.

    Raises:
        HRI30Error: a reference names no setting, or settings contradict.
    """
    if not _has_reference(cfg._cfg_dict):
        return cfg
    settings = _settings(cfg._cfg_dict)
    resolved = _resolve(cfg._cfg_dict, settings)
    for name in ('classes', 'num_workers'):
        if name in resolved:
            resolved[name] = settings[name]
    resolved = ConfigDict(resolved)
    return Config(resolved, cfg_text=cfg.text, filename=cfg.filename,
                  env_variables=cfg.env_variables)


def find_config(path: str) -> Path:
    """Finds a config from where the user stands, or from the clone.

    Raises:
        HRI30Error: there is none; names the configs that are there.
    """
    for candidate in (Path(path).expanduser(), PROJECT_ROOT / path):
        if candidate.is_file():
            return candidate.resolve()
    known = sorted(str(file.relative_to(PROJECT_ROOT))
                   for file in (PROJECT_ROOT / 'configs').glob('*/*.py')
                   if file.parent.name != '_base_')
    raise HRI30Error(f'{path}: no such config.\nConfigs of this project:\n'
                     + first_cases(known, limit=20))


def load_config(path: str, options: dict | None = None) -> Config:
    """Loads a config with its options, and its references resolved.

    Args, returns and raised errors are those of :func:`read_config`, but that no
    reference is left.
    """
    return resolve_settings(read_config(path, options))


def read_config(path: str, options: dict | None = None) -> Config:
    """Reads a config with its options: these beat HRI30_ROOT beats the config.

    Args:
        path (str): The config's path, from here or from the clone.
        options (dict, optional): As parsed from ``--cfg-options``.

    Returns:
        Config: References unresolved, with absolute paths. A relative
        ``data_root`` or ``cache_dir`` is relative to the current folder where the
        user gave it, and to the clone where the config did.

    Raises:
        HRI30Error: no such config, one that cannot be read, or settings that
            contradict.
    """
    file = find_config(path)
    options = dict(options or {})
    fromfile = getattr(Config.fromfile, 'unresolved', Config.fromfile)
    try:
        cfg = fromfile(str(file))
    except HRI30Error:
        raise
    except Exception as error:
        line = getattr(error, 'lineno', None)
        raise HRI30Error(
            f'{file}: not a readable config'
            f'{f", line {line}" if line else ""} '
            f'({type(error).__name__}: {error}).\n'
            'Expected an mmengine config in Python; see configs/slowonly for '
            'one to start from.') from error
    if 'model' not in cfg:
        raise HRI30Error(f'{file}: not a whole config: it has no model.\nChoose one '
                         'that is not in configs/_base_.')
    if os.environ.get('HRI30_ROOT'):
        options.setdefault('data_root', os.environ['HRI30_ROOT'])
    try:
        cfg.merge_from_dict(options)
    except Exception as error:
        raise HRI30Error(
            f'--cfg-options: {type(error).__name__}: {error}.\n'
            f'Expected key=value pairs that fit {file.name}.') from error
    for name in ('data_root', 'cache_dir'):
        if cfg.get(name):
            base = Path.cwd() if name in options else PROJECT_ROOT
            try:
                cfg[name] = str((base / Path(str(cfg[name])).expanduser()).resolve())
            except (OSError, RuntimeError, ValueError) as error:  # ~nobody, a zero byte
                raise HRI30Error(f'{name}={str(cfg[name])[:200]!r}: not a path ({error}).'
                                 ) from error
    return cfg


def parse_options(pairs: list[str]) -> dict:
    """Parses ``--cfg-options`` as mmengine does, but keeps paths whole.

    mmengine's ``DictAction`` drops every space and splits at commas; a value with
    a slash or a space and without brackets or quotes is taken as it stands.

    Args:
        pairs (list[str]): Such as ``['data_root=/my clips', 'classes=A,B']``.

    Returns:
        dict: Values by dotted key.

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
        if len(pair) > _MAX_OPTION:
            raise HRI30Error(f'--cfg-options {pair[:60]}...: {len(pair):,} characters, '
                             f'expected {_MAX_OPTION:,} at most.\nPut it into a config.')
        if re.search(r'[/\\\s]', value) and not re.search(r'[\[\](){}\'"]', value):
            options[key] = value
            continue
        try:
            # With the equals sign, an item may begin with a dash.
            options.update(parser.parse_args([f'--options={pair}']).options)
        except (ValueError, AssertionError, RecursionError) as error:
            raise HRI30Error(f'--cfg-options {pair[:200]}: {error}') from error
    return options
