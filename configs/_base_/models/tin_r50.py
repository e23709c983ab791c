# TIN R50 (arXiv 2001.06499), as mmaction2 trains it on Kinetics-400 with 8 frames: as TSM,
# but how far the channels are shifted in time is learnt (hri30_ext/compat/tin_shift.py).
_base_ = 'mmaction::recognition/tin/tin_kinetics400-pretrained-tsm-r50_1x1x8-50e_kinetics400-rgb.py'
[_base_.pop(_key) for _key in set(_base_) - {'model'}]  # as in slowonly_r50.py

model = dict(
    # Weights come from load_from, so the base's own download of ImageNet weights is off;
    # with pretrained2d it would still try.
    backbone=dict(pretrained=None, pretrained2d=False, num_segments='${num_frames}'),
    cls_head=dict(
        num_segments='${num_frames}',
        num_classes='${num_classes}',
        label_smooth_eps='${label_smoothing}'),
    data_preprocessor=dict(
        mean='${starts[start].mean}', std='${starts[start].std}',
        blending='${mixings[mixing]}'))
