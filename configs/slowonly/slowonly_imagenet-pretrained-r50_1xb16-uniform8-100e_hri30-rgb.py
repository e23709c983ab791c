# The primitive from ImageNet: 2D weights, inflated along time where kernels are 3D.
_base_ = 'slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py'

start = 'imagenet'
