# An attentive probe on a frozen V-JEPA 2 ViT-L.
_base_ = 'conv_vjepa2-vitl_1xb16-uniform16-30e_hri30-rgb.py'
probe = 'attentive'
