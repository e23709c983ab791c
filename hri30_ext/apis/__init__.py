"""What the launchers in ``tools/`` call."""

from .testing import test
from .training import train

__all__ = ['test', 'train']
