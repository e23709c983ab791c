# The mean of the class tokens on a frozen CLIP's ViT-B/16.
_base_ = '../_base_/models/foundation.py'

backbone = 'clip-vitb16'
probe = 'mean'
