# A STEP probe (arXiv 2503.24298) on a frozen DINOv2 ViT-B/14.
_base_ = '../_base_/models/foundation.py'

backbone = 'dinov2-vitb14'
probe = 'step'
