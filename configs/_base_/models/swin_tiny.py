# Video Swin-T (arXiv 2106.13230), as mmaction2 trains it on Kinetics-400 with 32 frames: a
# transformer with attention within windows of 8 x 7 x 7 tokens.
_base_ = 'mmaction::recognition/swin/swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb.py'
[_base_.pop(_key) for _key in set(_base_) - {'model'}]  # as in slowonly_r50.py

# ---- Frequently modified: a variant or --cfg-options sets these, nothing else ----
drop_path = 0.1  # share of the clips that skip the last block; less in blocks before
head_std = 0.01  # standard deviation of the weights of a new head
# ----------------------------------------------------------------------------------

model = dict(
    # Weights come from load_from, so the base's own download of ImageNet weights is off,
    # and with it their inflation to 3D.
    backbone=dict(pretrained=None, pretrained2d=False, drop_path_rate='${drop_path}'),
    cls_head=dict(
        init_std='${head_std}',
        num_classes='${num_classes}',
        label_smooth_eps='${label_smoothing}'),
    data_preprocessor=dict(
        mean='${starts[start].mean}', std='${starts[start].std}',
        blending='${mixings[mixing]}'))
