# R(2+1)D-34 (arXiv 1711.11248), as mmaction2 trains it on Kinetics-400 with 8 frames: each
# 3D convolution is a 2D one over the frame and a 1D one over time.
_base_ = 'mmaction::recognition/r2plus1d/r2plus1d_r34_8xb8-8x8x1-180e_kinetics400-rgb.py'
[_base_.pop(_key) for _key in set(_base_) - {'model'}]  # as in slowonly_r50.py

model = dict(
    # The base's SyncBN refuses tensors on the CPU; on one device the two are the same.
    backbone=dict(norm_cfg=dict(type='BN3d')),
    cls_head=dict(num_classes='${num_classes}', label_smooth_eps='${label_smoothing}'),
    data_preprocessor=dict(
        mean='${starts[start].mean}', std='${starts[start].std}',
        blending='${mixings[mixing]}'))
