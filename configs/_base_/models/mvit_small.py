# MViTv2-S (arXiv 2112.01526), as mmaction2 trains it on Kinetics-400 with 16 frames: a
# transformer that loses resolution and gains channels from stage to stage.
_base_ = 'mmaction::recognition/mvit/mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb.py'
[_base_.pop(_key) for _key in set(_base_) - {'model'}]  # as in slowonly_r50.py

# ---- Frequently modified: a variant or --cfg-options sets these, nothing else ----
drop_path = 0.1  # share of the clips that skip the last block; less in blocks before
head_std = 2e-5  # standard deviation of the weights of a new head
# ----------------------------------------------------------------------------------

model = dict(
    # Frame counts other than 16 do not fit the published position embeddings.
    backbone=dict(temporal_size='${num_frames}', drop_path_rate='${drop_path}'),
    cls_head=dict(
        dropout_ratio=0.0,
        init_std='${head_std}',
        num_classes='${num_classes}',
        label_smooth_eps='${label_smoothing}'),
    data_preprocessor=dict(
        mean='${starts[start].mean}', std='${starts[start].std}',
        blending='${mixings[mixing]}'))
