# Fine-tuning, strategy 3 in stages: layer4 after 10 epochs, layer3 after 15, all after 20.
_base_ = 'slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py'

strategy = 'stagewise'
