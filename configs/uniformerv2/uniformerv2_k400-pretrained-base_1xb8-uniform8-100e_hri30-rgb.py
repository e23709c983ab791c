# UniFormerV2-B/16 (arXiv 2211.09552) from CLIP, Kinetics-710, then Kinetics-400: 8 frames.
_base_ = ['../_base_/models/uniformerv2_base.py', '../_base_/recipe.py']

batch_size = 8
# As mmaction2 fine-tunes it from Kinetics-400 on Moments in Time, 2e-5 for 512 clips, in the
# backbone. The head, which is new, gets ten times that: for 8 clips, the rate is tiny.
optimizer = 'adamw'
lr = 2e-4
base_batch_size = 512
scale_lr = 'linear'
strategy = 'backbone_tenth'
clip_grad = dict(max_norm=20)
color_jitter = None
rand_augment = 'm7-n4'
starts = dict(k400=dict(
    weights='https://download.openmmlab.com/mmaction/v1.0/recognition/uniformerv2/uniformerv2-base-p16-res224_clip-kinetics710-pre_8xb32-u8_kinetics400-rgb/uniformerv2-base-p16-res224_clip-kinetics710-pre_8xb32-u8_kinetics400-rgb_20230313-75be0806.pth',
    mean=[114.75, 114.75, 114.75], std=[57.375, 57.375, 57.375]))
stages = dict(
    last=[f'backbone.transformer.{name}' for name in (
        'balance', 'dec', 'dpe', 'norm', 'temporal_cls_token')],
    middle=[f'backbone.transformer.resblocks.{i}' for i in range(8, 12)])
