# Frame2Freq (arXiv 2602.18977) in a frozen DINOv2 ViT-B/14.
_base_ = '../_base_/models/foundation.py'

backbone = 'dinov2-vitb14'
adapter = 'frame2freq'
probe = 'mean'
cache_features = None  # the adapters change the tokens
