# The primitive without flips.
_base_ = 'slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py'

flip = None
