# A STEP probe (arXiv 2503.24298) on a frozen DINOv2 ViT-S/14.
_base_ = 'conv_dinov2-vits14_1xb16-uniform8-30e_hri30-rgb.py'
probe = 'step'
