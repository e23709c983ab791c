# Frame2Freq (arXiv 2602.18977) in a frozen DINOv2 ViT-S/14.
_base_ = 'st-adapter_dinov2-vits14_1xb16-uniform8-30e_hri30-rgb.py'
adapter = 'frame2freq'
