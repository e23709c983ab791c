# ir-CSN R50 (arXiv 1904.02811), as mmaction2 fine-tunes it on Kinetics-400 from IG65M with
# 32 frames: 3D convolutions within a channel, 1 x 1 x 1 ones between channels. BatchNorm is
# frozen, statistics and weights.
_base_ = 'mmaction::recognition/csn/ircsn_ig65m-pretrained-r50-bnfrozen_8xb12-32x2x1-58e_kinetics400-rgb.py'
[_base_.pop(_key) for _key in set(_base_) - {'model'}]  # as in slowonly_r50.py

model = dict(
    # Weights come from load_from, so the base's own download of IG65M weights is off.
    backbone=dict(pretrained=None),
    cls_head=dict(num_classes='${num_classes}', label_smooth_eps='${label_smoothing}'),
    data_preprocessor=dict(
        mean='${starts[start].mean}', std='${starts[start].std}',
        blending='${mixings[mixing]}'))
