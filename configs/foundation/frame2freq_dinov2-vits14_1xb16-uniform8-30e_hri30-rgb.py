# Frame2Freq (arXiv 2602.18977) in a frozen DINOv2 ViT-S/14.
_base_ = '../_base_/models/foundation.py'

backbone = 'dinov2-vits14'
adapter = 'frame2freq'
probe = 'mean'
cache_features = None  # the adapters change the tokens
