# ST-Adapter (arXiv 2206.13559) in a frozen DINOv2 ViT-B/14.
_base_ = '../_base_/models/foundation.py'

backbone = 'dinov2-vitb14'
adapter = 'st-adapter'
probe = 'mean'
cache_features = None  # the adapters change the tokens
