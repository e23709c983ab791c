# Frame2Freq (arXiv 2602.18977) in a frozen DINOv2 ViT-B/14.
_base_ = 'st-adapter_dinov2-vitb14_1xb16-uniform8-30e_hri30-rgb.py'
adapter = 'frame2freq'
