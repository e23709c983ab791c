# ViT-B of VideoMAE (arXiv 2203.12602) with joint attention over space and time, as
# mmaction2 ports it from Kinetics-400 with 16 frames.
_base_ = 'mmaction::recognition/videomae/vit-base-p16_videomae-k400-pre_16x4x1_kinetics-400.py'
[_base_.pop(_key) for _key in set(_base_) - {'model'}]  # as in slowonly_r50.py

# ---- Frequently modified: a variant or --cfg-options sets these, nothing else ----
drop_path = 0.1  # share of the clips that skip the last block; less in blocks before
head_std = 2e-5  # standard deviation of the weights of a new head
# ----------------------------------------------------------------------------------

model = dict(
    backbone=dict(num_frames='${num_frames}', drop_path_rate='${drop_path}'),
    cls_head=dict(
        init_std='${head_std}',
        num_classes='${num_classes}',
        label_smooth_eps='${label_smoothing}'),
    data_preprocessor=dict(
        mean='${starts[start].mean}', std='${starts[start].std}',
        blending='${mixings[mixing]}'))
