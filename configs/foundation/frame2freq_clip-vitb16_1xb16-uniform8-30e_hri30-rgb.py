# Frame2Freq (arXiv 2602.18977) in a frozen CLIP ViT-B/16.
_base_ = 'st-adapter_clip-vitb16_1xb16-uniform8-30e_hri30-rgb.py'
adapter = 'frame2freq'
