# V-JEPA 2's own probe (arXiv 2506.09985) on a frozen V-JEPA 2 ViT-L. Its authors train 20
# probes at once and keep the best one: lr of 0.0001, 0.0003, 0.001, 0.003, 0.005 with
# weight_decay of 0.01, 0.1, 0.4, 0.8.
_base_ = 'conv_vjepa2-vitl_1xb16-uniform16-30e_hri30-rgb.py'
probe = 'attentive-vjepa2'
max_epochs = 20
warmup_epochs = 0
weight_decay = 0.01
