"""Runner, hooks and optimizers."""

from .. import compat  # noqa: F401  (first: it mends what the others import)
from .checkpoint import ResumableEarlyStoppingHook, ValidatedCheckpointHook
from .features import FeatureCacheHook
from .fine_tuning import PartwiseOptimWrapperConstructor, UnfreezeHook
from .hooks import ChannelsLastHook, ClassWeightsHook, CurvesHook, LearningRatesHook
from .optim import BF16OptimWrapper
from .resolution import ProgressiveSizeHook
from .runner import HRI30Runner

__all__ = ['BF16OptimWrapper', 'ChannelsLastHook', 'ClassWeightsHook', 'CurvesHook',
           'FeatureCacheHook', 'HRI30Runner', 'LearningRatesHook',
           'PartwiseOptimWrapperConstructor', 'ProgressiveSizeHook',
           'ResumableEarlyStoppingHook', 'UnfreezeHook', 'ValidatedCheckpointHook']
