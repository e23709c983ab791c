"""Searching settings with Optuna: trials that learn from those before them."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock
from matplotlib.figure import Figure
from mmengine.hooks import Hook

from ..config import find_config, load_config, parse_options
from ..errors import HRI30Error, Interrupted
from ..utils.curves import save_figure
from ..utils.fileio import atomic_write_text, check_writable
from .gpu_queue import run_queue
from .runs import Run, train_and_test

try:
    import optuna
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.storages.journal import JournalFileBackend, JournalStorage
    from optuna.trial import TrialState
except ImportError:
    optuna = None

_RANGE = re.compile(r'([-+.\deE]+):([-+.\deE]+)(:log)?')


def parse_space(space: Sequence[str]) -> dict:
    """Parses ``KEY=LOW:HIGH``, ``KEY=LOW:HIGH:log`` and ``KEY=A,B,C``.

    >>> parse_space(['decay=cosine,step'])
    {'decay': CategoricalDistribution(choices=('cosine', 'step'))}

    Returns:
        dict: Distributions of Optuna by setting; whole numbers if both bounds are.

    Raises:
        HRI30Error: another form, or a repeated name; or Optuna is not installed.
    """
    if optuna is None:
        raise HRI30Error('a search needs the package optuna, the extra "search", which is '
                         'not installed.\nRun bash tools/setup.sh.')
    parsed = {}
    for item in space:
        key, _, values = item.partition('=')
        choices = re.split(r',(?![^(\[]*[)\]])', values)  # not within (112,72)
        try:
            if bounds := _RANGE.fullmatch(values):
                whole = all(re.fullmatch(r'[-+]?\d+', bounds[i]) for i in (1, 2))
                kind, number = ((IntDistribution, int) if whole
                                else (FloatDistribution, float))
                found = kind(number(bounds[1]), number(bounds[2]), log=bool(bounds[3]))
            elif len(set(choices)) == len(choices) > 1 and all(choices):
                found = CategoricalDistribution(choices)
            else:
                raise ValueError('expected two choices or more')
            if not re.fullmatch(r'[\w.]+', key) or key in parsed:
                raise ValueError('expected a new name')
        except ValueError as error:
            raise HRI30Error(f'--space {item}: {error}.\nExpected KEY=LOW:HIGH, '
                             'KEY=LOW:HIGH:log or KEY=A,B,C, such as '
                             'lr=1e-4:1e-2:log.') from error
        parsed[key] = found
    return parsed


def search(config: str, space: Sequence[str], trials: int, out: str,
           options: Sequence[str] = (), seed: int = 0) -> dict:
    """Trains with settings that a tree-structured Parzen estimator proposes.

    Each GPU does one trial at a time. ``search.journal`` keeps all trials: a repeated call
    goes on, and several machines share the search if they share the folder. A trial whose
    accuracy is below the median of those before it, at the same epoch after the warm-up,
    ends. The folder also gets ``search.png``, ``best.py`` and the work folder of each
    trial.

    Args:
        config (str): Path of the config.
        space (Sequence[str]): See :func:`parse_space`.
        trials (int): How many in all, on all machines. A repeated call makes up for those
            that failed.
        out (str): The folder.
        options (Sequence[str]): Settings of all trials, as for ``--cfg-options``.
        seed (int): Of the sampler.

    Returns:
        dict: ``trial``, ``top1`` and ``settings`` of the best trial. The validation clips
        choose it, so that its score is too high.

    Raises:
        HRI30Error: an invalid space or setting, a folder with another search, no trial that
            ended well, or a signal.
    """
    parsed = parse_space(space)
    warmup = load_config(config, parse_options(list(options))).get('warmup_epochs', 0)
    for key, choice in parsed.items():  # before anything is trained
        for value in getattr(choice, 'choices', None) or (choice.low, choice.high):
            load_config(config, parse_options([*options, f'{key}={value}']))
    out = check_writable(out)
    asked = dict(config=Path(config).name, space=list(space), options=list(options))
    study = _open_study(out, warmup, seed)
    before = study.user_attrs.get('asked', asked)
    if before != asked:
        raise HRI30Error(f'{out}: holds another search:\n  {before}\nExpected\n  {asked}\n'
                         'Choose another --out.')
    study.set_user_attr('asked', asked)
    jobs = [(config, parsed, trials, out, tuple(options), warmup, seed)]
    for line in run_queue(run_trial, jobs * (trials - _count(study))):
        if line:
            print(line, flush=True)
    if not study.get_trials(states=(TrialState.COMPLETE,)):
        raise HRI30Error(f'{out}: no trial was trained to its end; see run.log in the '
                         'folders of the trials.')
    plot_search(study, out / 'search.png')
    best = dict(trial=study.best_trial.number, top1=study.best_value,
                settings=study.best_params)
    atomic_write_text(out / 'best.py', format_config(
        config, parse_options(_settings(options, study.best_params)), out,
        f'Best of {len(study.trials)} trials by the validation clips, top-1 '
        f'{best["top1"]:.4f}, which is too high.'))
    return best


def _open_study(out: Path, warmup: int, seed: int):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(out / 'search.journal')))
    study = optuna.create_study(
        storage=storage, study_name='search', direction='maximize', load_if_exists=True)
    study.pruner = optuna.pruners.MedianPruner(n_warmup_steps=warmup)
    # Every trial has a sampler of its own, in a process of its own.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    return study


def _count(study) -> int:
    """Counts the trials that ended well, were pruned, or run."""
    return len(study.get_trials(states=(
        TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)))


def _settings(options: Sequence[str], parameters: Mapping) -> list[str]:
    return [*options, *(f'{key}={value}' for key, value in parameters.items())]


class _Reporter(Hook):
    """Reports each validation; ends the training of a trial that is worse than others."""

    def __init__(self, trial) -> None:
        self.trial = trial

    def after_val_epoch(self, runner, metrics=None) -> None:
        self.trial.report(metrics['top1'], runner.epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned(f'pruned after {runner.epoch} epochs')


def run_trial(config: str, space: dict, trials: int, out: Path, options: Sequence[str],
              warmup: int, seed: int) -> str | None:
    """Trains one trial in this process.

    Args:
        space (dict): Of :func:`parse_space`.
        warmup (int): Epochs before a trial is pruned.

    The others are those of :func:`search`.

    Returns:
        str | None: A line on the trial; None if there are enough trials.

    Raises:
        HRI30Error: a signal, or the trial failed, and none before it ended well.
    """
    with FileLock(out / 'search.lock'):
        study = _open_study(out, warmup, seed)
        if _count(study) >= trials:
            return None
        trial = study.ask(space)
    run = Run(f'trial {trial.number}', out / f'trial{trial.number:03}',
              tuple(_settings(options, trial.params)))
    try:
        top1 = train_and_test(config, run, hooks=[_Reporter(trial)])['top1']
        outcome = f'top-1 {top1:.4f}'
        study.tell(trial, top1)
    except optuna.TrialPruned as error:
        outcome = str(error)
        study.tell(trial, state=TrialState.PRUNED)
    except HRI30Error as error:
        study.tell(trial, state=TrialState.FAIL)
        if isinstance(error.__cause__, Interrupted) or not study.get_trials(
                states=(TrialState.COMPLETE, TrialState.PRUNED)):
            raise
        outcome = f'failed: {error}'
    return f'{run.name}: {" ".join(_settings((), trial.params))}: {outcome}'


# ---- What is written --------------------------------------------------------------------


def plot_search(study, path: str | Path) -> None:
    """Draws the trials in their order, and how much each setting matters.

    Args:
        study (optuna.Study): With a complete trial.
        path (str | Path): The PNG file.
    """
    figure = Figure(figsize=(12, 4), layout='constrained')
    history, weights = figure.subplots(1, 2)
    for state, marker in ((TrialState.COMPLETE, 'o'), (TrialState.PRUNED, 'x')):
        done = study.get_trials(states=(state,))
        history.scatter([trial.number for trial in done], [trial.value for trial in done],
                        marker=marker, label=state.name.lower())
        if state == TrialState.COMPLETE:
            history.step([trial.number for trial in done], np.maximum.accumulate(
                [trial.value for trial in done]), where='post', label='best so far')
    history.set(xlabel='Trial', ylabel='Validation top-1 accuracy')
    history.legend()
    try:
        found = optuna.importance.get_param_importances(
            study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=0))
        weights.barh([*reversed(found)], [*reversed(found.values())])
        weights.set(xlabel='Importance (fANOVA), of complete trials')
    except (ValueError, RuntimeError):  # one complete trial, or all equal
        weights.set(title='Too few different results for importances')
    save_figure(figure, path)


def format_config(config: str, settings: dict, out: Path, title: str) -> str:
    """Formats a variant: a config of the settings that differ.

    Args:
        config (str): Path of the config that it varies.
        settings (dict): By dotted name.
        out (Path): The folder that it is for.
        title (str): The comment at its top.
    """
    for name in {'data_root', 'cache_dir'} & settings.keys():
        settings[name] = str(Path(settings[name]).expanduser().absolute())
    nested: dict = {}
    for key, value in settings.items():
        *tables, last = key.split('.')
        table = nested
        for name in tables:
            table = table.setdefault(name, {})
        table[last] = value
    lines = [f'# {title}', f'_base_ = {os.path.relpath(find_config(config), out)!r}', '',
             *(f'{name} = {value!r}' for name, value in nested.items())]
    return '\n'.join(lines) + '\n'
