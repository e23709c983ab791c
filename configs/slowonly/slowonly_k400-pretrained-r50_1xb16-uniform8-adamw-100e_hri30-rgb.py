# The primitive with AdamW.
_base_ = 'slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py'

optimizer = 'adamw'
lr = 1e-4
