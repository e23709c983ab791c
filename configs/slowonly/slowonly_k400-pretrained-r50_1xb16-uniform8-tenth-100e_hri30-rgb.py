# Fine-tuning, strategy 2: the backbone learns at a tenth of the head's rate.
_base_ = 'slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py'

strategy = 'backbone_tenth'
