"""Models that mmaction2 lacks."""

from .adapters import Frame2FreqAdapter, STAdapter
from .encoders import HFVideo, TimmFrames
from .features import take_features
from .lstm_head import LSTMHead
from .probes import (
    AttentiveProbe,
    ConvProbe,
    FoundationRecognizer,
    MeanProbe,
    ProbeHead,
    STEPProbe,
)

__all__ = ['AttentiveProbe', 'ConvProbe', 'FoundationRecognizer', 'Frame2FreqAdapter',
           'HFVideo', 'LSTMHead', 'MeanProbe', 'ProbeHead', 'STAdapter', 'STEPProbe',
           'TimmFrames', 'take_features']
