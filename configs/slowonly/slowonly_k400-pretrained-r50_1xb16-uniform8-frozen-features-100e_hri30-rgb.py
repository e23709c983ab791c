# Fine-tuning, strategy 1, on stored features: the frozen backbone sees each clip once.
_base_ = 'slowonly_k400-pretrained-r50_1xb16-uniform8-frozen-100e_hri30-rgb.py'

cache_features = 'plain'
