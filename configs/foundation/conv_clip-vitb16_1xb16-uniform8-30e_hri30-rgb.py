# A convolutional probe on a frozen CLIP ViT-B/16.
_base_ = '../_base_/models/foundation.py'
backbone = 'clip-vitb16'
