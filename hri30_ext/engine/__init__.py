"""Runner, hooks and optimizers."""

from .checkpoint import ResumableEarlyStoppingHook, ValidatedCheckpointHook
from .data_parallel import HRI30DataParallel
from .features import FeatureCacheHook
from .fine_tuning import (
    FrozenBatchNormHook,
    PartwiseOptimWrapperConstructor,
    UnfreezeHook,
)
from .hooks import ClassWeightsHook, CurvesHook, LearningRatesHook, StepEMAHook
from .loading import stack_clips
from .loops import ResumableTrainLoop
from .optim import BF16OptimWrapper
from .progress import EpochLineHook
from .runner import HRI30Runner
from .skipped import SkippedVideosHook

__all__ = ['BF16OptimWrapper', 'ClassWeightsHook', 'CurvesHook', 'EpochLineHook',
           'FeatureCacheHook', 'FrozenBatchNormHook', 'HRI30DataParallel',
           'HRI30Runner', 'LearningRatesHook', 'PartwiseOptimWrapperConstructor',
           'ResumableEarlyStoppingHook', 'ResumableTrainLoop', 'SkippedVideosHook',
           'StepEMAHook', 'UnfreezeHook', 'ValidatedCheckpointHook', 'stack_clips']
