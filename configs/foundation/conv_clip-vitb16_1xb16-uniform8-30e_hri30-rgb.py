# A convolutional probe on a frozen CLIP's ViT-B/16.
_base_ = '../_base_/models/foundation.py'

backbone = 'clip-vitb16'
probe = 'conv'
