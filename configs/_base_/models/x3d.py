# X3D (arXiv 2004.04730), as mmaction2 ports it from Kinetics-400. S (13 frames, 160 x 160)
# and M (16 frames, 224 x 224) are one network; only what they are shown differs.
_base_ = 'mmaction::recognition/x3d/x3d_m_16x5x1_facebook-kinetics400-rgb.py'
[_base_.pop(_key) for _key in set(_base_) - {'model'}]  # as in slowonly_r50.py

model = dict(
    cls_head=dict(num_classes='${num_classes}', label_smooth_eps='${label_smoothing}'),
    data_preprocessor=dict(
        mean='${starts[start].mean}', std='${starts[start].std}',
        blending='${mixings[mixing]}'))
