# ST-Adapter (arXiv 2206.13559) in a frozen DINOv2 ViT-S/14.
_base_ = 'mean_dinov2-vits14_1xb16-uniform8-30e_hri30-rgb.py'
adapter = 'st-adapter'
cache_features = None  # adapters change the tokens
