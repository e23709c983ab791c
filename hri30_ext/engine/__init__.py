"""Runner, hooks and optimizers."""

from .. import compat  # noqa: F401  (first: it mends what the others import)
from .checkpoint import ResumableEarlyStoppingHook, ValidatedCheckpointHook
from .fine_tuning import PartwiseOptimWrapperConstructor, UnfreezeHook
from .hooks import ChannelsLastHook, ClassWeightsHook, CurvesHook, LearningRatesHook
from .optim import BF16OptimWrapper
from .runner import HRI30Runner

__all__ = ['BF16OptimWrapper', 'ChannelsLastHook', 'ClassWeightsHook', 'CurvesHook',
           'HRI30Runner', 'LearningRatesHook', 'PartwiseOptimWrapperConstructor',
           'ResumableEarlyStoppingHook', 'UnfreezeHook', 'ValidatedCheckpointHook']
