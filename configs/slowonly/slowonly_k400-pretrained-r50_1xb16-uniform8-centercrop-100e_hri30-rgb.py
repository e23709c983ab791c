# The primitive with mmaction2's test view, a centre crop: it does not see the sides.
_base_ = 'slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py'

test_pipeline = _base_.test_pipeline
test_pipeline[3:4] = [dict(type='ResizeClip', scale=(-1, 256)),
                      dict(type='CenterCrop', crop_size=224)]
