# UniFormerV2-B/16 (arXiv 2211.09552), as mmaction2 trains it on Kinetics-400 with 8 frames:
# CLIP's image transformer, with temporal blocks beside it.
_base_ = 'mmaction::recognition/uniformerv2/uniformerv2-base-p16-res224_clip-kinetics710-pre_8xb32-u8_kinetics400-rgb.py'
[_base_.pop(_key) for _key in set(_base_) - {'model'}]  # as in slowonly_r50.py

# ---- Frequently modified: a variant or --cfg-options sets these, nothing else ----
drop_path = 0  # share of the clips that skip the last block; less in blocks before
head_std = 0.02  # standard deviation of the weights of a new head
# ----------------------------------------------------------------------------------

model = dict(
    # Weights come from load_from, so the base's own download of Kinetics-710 weights is
    # off, the head's (a choice of 400 of its 710 classes) included.
    backbone=dict(
        init_cfg=None,
        t_size='${num_frames}',
        backbone_drop_path_rate='${drop_path}',
        drop_path_rate='${drop_path}'),
    cls_head=dict(
        init_cfg=dict(_delete_=True, type='TruncNormal', layer='Linear', std='${head_std}'),
        channel_map=None,
        num_classes='${num_classes}',
        label_smooth_eps='${label_smoothing}'),
    data_preprocessor=dict(
        mean='${starts[start].mean}', std='${starts[start].std}',
        blending='${mixings[mixing]}'))
