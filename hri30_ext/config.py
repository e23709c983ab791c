"""Configs whose settings live at the top, in one place, and can be changed until the end.

A config names its settings at the top (``num_frames = 8``) and refers to them where they
are used (``clip_len='${num_frames}'``). A reference is replaced by the value that it names,
after inheritance and ``--cfg-options``, so that a changed setting reaches the loaders and
the head:

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

from .errors import HRI30Error, first_cases
from .hardware import best_precision, default_clip_cache, default_num_workers
from .names import HRI30_CLASSES, PROJECT_ROOT, canonical_name
from .settings import SETTINGS, TABLES, check_names, check_values, known_entries
from .utils.reading import read_classes

#: Settings that are paths.
PATHS = ('data_root', 'cache_dir', 'features_dir', 'split.folder', 'split.train_file',
         'split.val_file')

_MAX_OPTION = 10_000  # characters; mmengine parses lists in quadratic time
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
            raise HRI30Error(
                f'{of}={key!r}: no such choice.\n'
                f'Expected one of: {known} (or add it to {reference["name"]}).')
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


def _restore(new, old, raw, settings: Mapping):
    """Returns ``raw``, with references, where ``new`` is ``old``, what it resolved to."""
    if _equal(new, old):
        return raw
    while match := _match(raw):
        raw = _look_up(match, settings, '')
    if all(isinstance(value, Mapping) for value in (new, old, raw)):
        return {key: _restore(item, old[key], raw[key], settings)
                if key in old and key in raw else item for key, item in new.items()}
    if all(isinstance(value, list | tuple) for value in (new, old, raw)):
        raw = [item for item in raw
               if not _match(item) or _replace(item, settings) is not None]
        if len(new) == len(old):
            items = [_restore(*three, settings)
                     for three in zip(new, old, raw, strict=True)]
        else:
            items = [next((was for was, before in zip(raw, old, strict=True)
                           if _equal(item, before)), item) for item in new]
        return type(new)(items)
    return new


def _equal(one, other) -> bool:
    # Much quicker than ConfigDict's comparison.
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(
            _equal(dict.__getitem__(one, key), dict.__getitem__(other, key)) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(
            map(_equal, one, other))
    return one is other or type(one) is type(other) and one == other


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
    # ImageNet's weights are of images: the backbone loads them, and inflates them.
    starts, settings['image_weights'] = settings.get('starts'), None
    if isinstance(starts, Mapping) and 'imagenet' in starts:
        if settings.get('start') == 'imagenet':
            settings['image_weights'] = starts['imagenet']
        settings['starts'] = {**starts, 'imagenet': None}
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


class SettingsConfig(Config):
    """A config with references, whose settings can be changed at any time.

    It reads as the config without references. Whenever a setting has changed, by
    assignment, by :meth:`merge_from_dict` or within a dict or list, all references are
    replaced again on the next access, which raises the errors of :func:`load_config`;
    other changes stay. ``Config.fromfile`` returns one for a file that contains references,
    see :func:`hri30_ext.compat.resolve_settings_on_loading`.
    """

    # Not resolved yet while _resolved is None; _before is what _resolved was at first.
    _raw = _resolved = _before = None
    _imported_names = frozenset()  # mmengine would look it up among the settings

    @property
    def _cfg_dict(self) -> ConfigDict:
        if self._resolved is None:
            self._set(self._raw)
        elif any(not _equal(self._resolved.get(name), self._before.get(name))
                 for name in self._watched):
            self._set(self._fold())
        return self._resolved

    @_cfg_dict.setter
    def _cfg_dict(self, value: ConfigDict) -> None:
        self.__dict__['_raw' if self._raw is None else '_resolved'] = value

    def _set(self, raw: Mapping) -> None:
        """Replaces the references of a config and checks its settings."""
        settings = _derive(raw)
        derived = {name: settings[name] for name in ('classes', 'num_workers', 'optimizers')
                   if name in raw}
        resolved = _replace({**raw, **derived}, settings)
        referenced = {match[group] for match in _list_references(raw)
                      for group in ('name', 'choice') if match[group]}
        check_values(resolved)
        check_names(resolved, referenced)
        self.__dict__.update(
            _raw=ConfigDict(raw), _resolved=ConfigDict(resolved),
            _before=ConfigDict(copy.deepcopy(resolved)),
            _watched=referenced | {name for name in (*SETTINGS, *TABLES) if name in raw})

    def _fold(self) -> dict:
        """Returns the config with references and all changes since they were replaced."""
        if self._resolved is None:
            return self._raw
        return _restore(self._resolved, self._before, self._raw, _derive(self._raw))

    @property
    def unresolved(self) -> Config:
        """The config with its references, which :meth:`mmengine.Config.dump` can write."""
        cfg = Config(filename=self.filename, cfg_text=self.text)
        object.__setattr__(cfg, '_cfg_dict', ConfigDict(copy.deepcopy(self._fold())))
        return cfg

    def merge_from_dict(self, options: dict, allow_list_keys: bool = True) -> None:
        """Changes settings and other parts, as mmengine's; references are kept.

        Raises:
            HRI30Error: a name that does not fit the config.
        """
        cfg = self.unresolved
        try:
            cfg.merge_from_dict(options, allow_list_keys)
        except Exception as error:
            raise HRI30Error(
                f'--cfg-options: {type(error).__name__}: {error}.\n'
                'Expected key=value pairs that fit '
                f'{Path(self.filename or "the config").name}.') from error
        if self._resolved is None:
            self.__dict__['_raw'] = cfg._cfg_dict
        else:
            self._set(cfg._cfg_dict)

    def __getstate__(self) -> dict:
        return self.__dict__

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)


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
        Config: Checked, with absolute paths; a :class:`SettingsConfig` where it contains
        references. Its attribute ``changed`` has the options that differ from the file.

    Raises:
        HRI30Error: no such config, a syntax error in it, an unknown setting, a wrong value,
            a reference that names no setting, or settings that contradict each other.
    """
    file = find_config(path)
    try:
        cfg = Config.fromfile(str(file))
    except HRI30Error:
        raise
    except Exception as error:
        line = getattr(error, 'lineno', None)
        raise HRI30Error(
            f'{file}: not a readable config{f", line {line}" if line else ""} '
            f'({type(error).__name__}: {error}).\n'
            'Expected an mmengine config in Python; see configs/slowonly for '
            'one to start from.') from error
    if not isinstance(cfg, SettingsConfig) and has_references(cfg._cfg_dict):
        cfg = SettingsConfig(cfg._cfg_dict, filename=file)  # no module of ours is imported
    values = cfg._raw if isinstance(cfg, SettingsConfig) else cfg
    if 'model' not in values:
        raise HRI30Error(f'{file}: not a complete config: it has no model.\nChoose one '
                         'outside of configs/_base_.')
    options = dict(options or {})
    if os.environ.get('HRI30_ROOT'):
        options.setdefault('data_root', os.environ['HRI30_ROOT'])
    changed = {name: value for name, value in options.items()
               if not _equal(_look_inside(values, name), value)}
    for name in PATHS:
        if isinstance(options.get(name.split('.')[0]), Mapping):
            continue  # a whole split counts as it is given
        value = options.get(name, _look_inside(values, name))
        if value and not has_references(value) and not isinstance(value, dict | list):
            base = Path.cwd() if name in options else PROJECT_ROOT
            options[name] = _make_absolute(name, str(value), base)  # it may be a number
    _refuse_parts_of_text(values, options)
    cfg.merge_from_dict(options)
    if isinstance(cfg, SettingsConfig):
        cfg._cfg_dict  # noqa: B018  (checks the settings)
    object.__setattr__(cfg, 'changed', changed)  # not a setting
    return cfg


def _refuse_parts_of_text(values, options: Mapping) -> None:
    for name in options:
        for end in (i for i, letter in enumerate(name) if letter == '.'):
            if isinstance(text := _look_inside(values, name[:end]), str):
                raise HRI30Error(f'{name}: {name[:end]} is {text!r}, which has no parts.\n'
                                 'Set what it refers to, or give it another value.')


def _look_inside(values, name: str):
    """Returns the value that a dotted name has in a config; None if there is none."""
    for key in name.split('.'):
        if isinstance(values, list | tuple) and key.isdigit() and int(key) < len(values):
            values = values[int(key)]
        else:
            values = values.get(key) if isinstance(values, Mapping) else None
    return values


def _make_absolute(name: str, value: str, base: Path) -> str:
    try:
        return str((base / Path(value).expanduser()).resolve())
    except (OSError, RuntimeError, ValueError) as error:  # ~nobody, a zero byte
        raise HRI30Error(f'{name}={value[:200]!r}: not a path ({error}).') from error


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
        if len(pair) > _MAX_OPTION:
            raise HRI30Error(f'--cfg-options {pair[:60]}...: {len(pair):,} characters, '
                             f'expected {_MAX_OPTION:,} at most.\nWrite it into a config.')
        if _TEXT.fullmatch(value):
            options[key] = value
            continue
        try:
            # With the equals sign, an item can begin with a dash.
            options.update(parser.parse_args([f'--options={pair}']).options)
        except (ValueError, AssertionError, RecursionError) as error:
            raise HRI30Error(f'--cfg-options {pair[:200]}: {error}') from error
    return options
