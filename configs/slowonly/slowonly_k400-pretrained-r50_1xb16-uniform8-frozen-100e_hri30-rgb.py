# Fine-tuning, strategy 1: the head learns on a frozen backbone.
_base_ = 'slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py'

strategy = 'frozen_backbone'
