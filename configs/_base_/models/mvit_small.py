# MViTv2-S (arXiv 2112.01526), as mmaction2 trains it on Kinetics-400 with 16 frames: a
# transformer that loses resolution and gains channels from stage to stage.
_base_ = 'mmaction::recognition/mvit/mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb.py'
[_base_.pop(_key) for _key in set(_base_) - {'model'}]  # as in slowonly_r50.py

model = dict(
    # Frame counts other than 16 do not fit the published position embeddings.
    backbone=dict(temporal_size='${num_frames}'),
    cls_head=dict(num_classes='${num_classes}', label_smooth_eps='${label_smoothing}'),
    # No Mixup and CutMix: the base's are made for 400 classes, and no other model here
    # mixes clips.
    data_preprocessor=dict(
        mean='${starts[start].mean}', std='${starts[start].std}', blending=None))
