# Frame2Freq (arXiv 2602.18977) in a frozen DINOv2 ViT-S/14.
_base_ = 'frame2freq_clip-vitb16_1xb8-uniform32-60e_hri30-rgb.py'
backbone = 'dinov2-vits14'
