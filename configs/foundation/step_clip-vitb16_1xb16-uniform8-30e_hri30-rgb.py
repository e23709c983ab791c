# A STEP probe (arXiv 2503.24298) on a frozen CLIP ViT-B/16.
_base_ = 'conv_clip-vitb16_1xb16-uniform8-30e_hri30-rgb.py'
probe = 'step'
