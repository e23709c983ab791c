# An attentive probe on a frozen CLIP ViT-B/16.
_base_ = 'conv_clip-vitb16_1xb16-uniform8-30e_hri30-rgb.py'
probe = 'attentive'
