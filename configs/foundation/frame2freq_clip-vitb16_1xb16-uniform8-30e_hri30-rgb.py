# Frame2Freq (arXiv 2602.18977) in a frozen CLIP's ViT-B/16.
_base_ = '../_base_/models/foundation.py'

backbone = 'clip-vitb16'
adapter = 'frame2freq'
probe = 'mean'
cache_features = None  # the adapters change the tokens
