"""Models that mmaction2 lacks."""

from .lstm_head import LSTMHead

__all__ = ['LSTMHead']
