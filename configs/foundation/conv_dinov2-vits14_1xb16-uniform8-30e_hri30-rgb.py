# A convolutional probe on a frozen DINOv2 ViT-S/14.
_base_ = '../_base_/models/foundation.py'
backbone = 'dinov2-vits14'
