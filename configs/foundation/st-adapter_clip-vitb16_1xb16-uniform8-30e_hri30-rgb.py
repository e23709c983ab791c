# ST-Adapter (arXiv 2206.13559) in a frozen CLIP's ViT-B/16.
_base_ = '../_base_/models/foundation.py'

backbone = 'clip-vitb16'
adapter = 'st-adapter'
probe = 'mean'
cache_features = None  # the adapters change the tokens
