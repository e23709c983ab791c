# ST-Adapter (arXiv 2206.13559) in a frozen DINOv2 ViT-B/14.
_base_ = 'st-adapter_clip-vitb16_1xb16-uniform16-50e_hri30-rgb.py'
backbone = 'dinov2-vitb14'
