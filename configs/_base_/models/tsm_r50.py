# TSM R50 (arXiv 1811.08383), as mmaction2 trains it on Kinetics-400 with 8 frames: a 2D
# ResNet-50 in which an eighth of the channels sees the frame before, another the one after.
_base_ = 'mmaction::recognition/tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb.py'
[_base_.pop(_key) for _key in set(_base_) - {'model'}]  # as in slowonly_r50.py

model = dict(
    # Weights come from load_from, so the base's own download of ImageNet weights is off.
    # With pretrained2d it would still try. The shift has to know where a clip ends: the
    # frames of all clips are one batch here.
    backbone=dict(pretrained=None, pretrained2d=False, num_segments='${num_frames}'),
    cls_head=dict(
        num_segments='${num_frames}',
        num_classes='${num_classes}',
        label_smooth_eps='${label_smoothing}'),
    data_preprocessor=dict(
        mean='${starts[start].mean}', std='${starts[start].std}',
        blending='${mixings[mixing]}'))
