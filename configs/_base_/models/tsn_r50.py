# TSN R50 (arXiv 1608.00859), as mmaction2 trains it on Kinetics-400 with 8 frames: a 2D
# ResNet-50 describes each frame, and the mean of the descriptions is classified.
_base_ = 'mmaction::recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb.py'
[_base_.pop(_key) for _key in set(_base_) - {'model'}]  # as in slowonly_r50.py

model = dict(
    # Weights come from load_from, so the base's own download of ImageNet weights is off.
    backbone=dict(pretrained='${starts[start].image_weights}'),
    cls_head=dict(num_classes='${num_classes}', label_smooth_eps='${label_smoothing}'),
    data_preprocessor=dict(
        mean='${starts[start].mean}', std='${starts[start].std}',
        blending='${mixings[mixing]}'))
