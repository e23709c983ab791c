"""Searching settings with Optuna: trials that learn from those before them."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock
from matplotlib.figure import Figure
from mmengine.config import Config
from mmengine.hooks import Hook

from ..config import PATHS, find_config, load_config, parse_options
from ..errors import HRI30Error, Interrupted
from ..utils.curves import save_figure
from ..utils.fileio import atomic_write_text, check_writable
from .gpu_queue import run_queue
from .runs import Run, train_and_test

try:
    import optuna
    from optuna import distributions
    from optuna.storages.journal import JournalFileBackend, JournalStorage
    from optuna.trial import TrialState
except ImportError:
    optuna = None


def parse_space(space: Sequence[str]) -> dict:
    """Parses ``KEY=LOW:HIGH``, ``KEY=LOW:HIGH:log`` and ``KEY=A,B,C`` into distributions of
    Optuna by setting: of whole numbers if both bounds are.

    Raises:
        HRI30Error: another form, or a repeated name; or Optuna is not installed.
    """
    if optuna is None:
        raise HRI30Error('a search needs the package optuna, the extra "search", which is '
                         'not installed.\nRun bash tools/setup.sh.')
    parsed = {}
    for item in space:
        key, _, values = item.partition('=')
        low, _, high = values.removesuffix(':log').partition(':')
        try:
            if not re.fullmatch(r'[-+.\deE]+', high):
                found = distributions.CategoricalDistribution(
                    re.split(r',(?![^(\[]*[)\]])', values))  # not within (112,72)
            elif re.fullmatch(r'[-+]?\d+', low + high):
                found = distributions.IntDistribution(
                    int(low), int(high), log=values.endswith(':log'))
            else:
                found = distributions.FloatDistribution(
                    float(low), float(high), log=values.endswith(':log'))
            if key in parsed or len(getattr(found, 'choices', '12')) < 2:
                raise ValueError('expected a new name, and two values or more')
        except ValueError as error:
            raise HRI30Error(f'--space {item}: {error}.\nExpected KEY=LOW:HIGH, '
                             'KEY=LOW:HIGH:log or KEY=A,B,C.') from error
        parsed[key] = found
    return parsed


def search(config: str, space: Sequence[str], trials: int, out: str,
           options: Sequence[str] = (), seed: int = 0) -> dict:
    """Trains with settings that a tree-structured Parzen estimator proposes.

    Each GPU does one trial at a time. After the warm-up, a trial below the median of those
    before it at the same epoch ends. The folder gets ``search.png``, ``best.py``, the work
    folder of each trial, and ``search.journal``: a repeated call goes on, and machines that
    share the folder share the search.

    Args:
        space (Sequence[str]): See :func:`parse_space`.
        trials (int): How many in all; a repeated call makes up for those that failed.
        options (Sequence[str]): Settings of all trials, as for ``--cfg-options``.
        seed (int): Of the proposals.

    Returns:
        dict: The best ``trial``, its ``settings``, and ``top1``, which is too high.

    Raises:
        HRI30Error: an invalid argument, another search in the folder, or no complete trial.
    """
    parsed = parse_space(space)
    for key, choice in parsed.items():  # before anything is trained
        for value in getattr(choice, 'choices', None) or (choice.low, choice.high):
            cfg = load_config(config, parse_options([*options, f'{key}={value}']))
    out = check_writable(out)
    study = _open_study(out, seed)
    asked = dict(config=Path(config).name, space=list(space), options=list(options))
    if (before := study.user_attrs.get('asked', asked)) != asked:
        raise HRI30Error(f'{out}: holds another search:\n  {before}\nExpected\n  {asked}\n'
                         'Choose another --out.')
    study.set_user_attr('asked', asked)
    job = config, parsed, trials, out, options, cfg.get('warmup_epochs', 0), seed
    for line in run_queue(run_trial, [job] * (trials - _count(study))):
        if line:
            print(line, flush=True)
    if not study.get_trials(states=(TrialState.COMPLETE,)):
        raise HRI30Error(f'{out}: no trial is complete; see run.log in their folders.')
    plot_search(study, out / 'search.png')
    best = study.best_trial
    variant = Config({'_base_': os.path.relpath(find_config(config), out)})
    variant.merge_from_dict({
        key: str(Path(value).expanduser().absolute()) if key in PATHS and value else value
        for key, value in parse_options([*options, *_settings(best)]).items()})
    atomic_write_text(out / 'best.py', (
        f'# Best of {len(study.trials)} trials by the validation clips, top-1 '
        f'{best.value:.4f}, which is too high.\n{variant.pretty_text}\n'))
    return dict(trial=best.number, top1=best.value, settings=best.params)


def _open_study(out: Path, seed: int, warmup: int = 0):
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(out / 'search.journal'))),
        pruner=optuna.pruners.MedianPruner(n_warmup_steps=warmup),
        study_name='search', direction='maximize', load_if_exists=True)
    # Every trial has a sampler of its own, in a process of its own.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    return study


def _count(study) -> int:
    """Counts the trials that ended well, were pruned, or run."""
    return len(study.get_trials(states=(
        TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING)))


def _settings(trial) -> list[str]:
    return [f'{key}={value}' for key, value in trial.params.items()]


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
    """Trains one trial, with the parsed arguments of :func:`search`; returns a line on it.

    Returns None if there are enough trials. Raises an HRI30Error for a signal, or if it
    failed and none before it ended well.
    """
    with FileLock(out / 'search.lock'):
        study = _open_study(out, seed, warmup)
        if _count(study) >= trials:
            return None
        trial = study.ask(space)
    run = Run(f'trial {trial.number}', config, out / f'trial{trial.number:03}',
              (*options, *_settings(trial)))
    try:
        top1 = train_and_test(run, hooks=[_Reporter(trial)])['top1']
        study.tell(trial, top1)
        outcome = f'top-1 {top1:.4f}'
    except optuna.TrialPruned as error:
        study.tell(trial, state=TrialState.PRUNED)
        outcome = str(error)
    except BaseException as error:
        study.tell(trial, state=TrialState.FAIL)
        if (not isinstance(error, HRI30Error) or not _count(study)
                or isinstance(error.__cause__, Interrupted)):
            raise
        outcome = f'failed: {error}'
    return f'{run.name}: {" ".join(_settings(trial))}: {outcome}'


def plot_search(study, path: Path) -> None:
    """Draws the trials in order, and how much each setting matters."""
    figure = Figure(figsize=(12, 4), layout='constrained')
    history, weights = figure.subplots(1, 2)
    for state, marker in ((TrialState.PRUNED, 'x'), (TrialState.COMPLETE, 'o')):
        done = study.get_trials(states=(state,))
        numbers, values = [one.number for one in done], [one.value for one in done]
        history.scatter(numbers, values, marker=marker, label=state.name.lower())
    history.step(numbers, np.maximum.accumulate(values), where='post', label='best so far')
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
