# SlowFast R50 8x8 (arXiv 1812.03982), as mmaction2 trains it on Kinetics-400 with 32
# frames: a wide pathway sees every 4th frame, a narrow one all of them.
_base_ = 'mmaction::recognition/slowfast/slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb.py'
[_base_.pop(_key) for _key in set(_base_) - {'model'}]  # as in slowonly_r50.py

model = dict(
    cls_head=dict(num_classes='${num_classes}', label_smooth_eps='${label_smoothing}'),
    data_preprocessor=dict(
        mean='${starts[start].mean}', std='${starts[start].std}',
        blending='${mixings[mixing]}'))
