"""Runner, hooks and optimizer wrappers."""

from .hooks import ChannelsLastHook, CurvesHook
from .optim import BF16OptimWrapper
from .runner import HRI30Runner

__all__ = ['BF16OptimWrapper', 'ChannelsLastHook', 'CurvesHook', 'HRI30Runner']
