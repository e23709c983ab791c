# The primitive from random weights.
_base_ = 'slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py'

start = 'none'
lr = 0.01  # nothing learnt to preserve
