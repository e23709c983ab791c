# A convolutional probe on a frozen V-JEPA 2 ViT-L.
_base_ = '../_base_/models/foundation.py'
backbone = 'vjepa2-vitl'
num_frames = 16  # read in pairs: 8 time steps
input_size = (256, 256)
