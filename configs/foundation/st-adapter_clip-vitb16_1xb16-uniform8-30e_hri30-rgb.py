# ST-Adapter (arXiv 2206.13559) in a frozen CLIP ViT-B/16.
_base_ = 'mean_clip-vitb16_1xb16-uniform8-30e_hri30-rgb.py'
adapter = 'st-adapter'
cache_features = None  # adapters change the tokens
