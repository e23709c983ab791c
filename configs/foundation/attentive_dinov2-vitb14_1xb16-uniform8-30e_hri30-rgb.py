# An attentive probe on a frozen DINOv2 ViT-B/14.
_base_ = 'conv_dinov2-vitb14_1xb16-uniform8-30e_hri30-rgb.py'
probe = 'attentive'
