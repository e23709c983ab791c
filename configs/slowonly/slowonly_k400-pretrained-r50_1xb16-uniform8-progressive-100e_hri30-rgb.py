# Fine-tuning, strategy 3: the head for 10 epochs, then all at differential rates.
_base_ = 'slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py'

strategy = 'progressive'
