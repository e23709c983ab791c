# MViTv2-S (arXiv 2112.01526) from Kinetics-400: 16 frames.
_base_ = ['../_base_/models/mvit_small.py', '../_base_/recipe.py']

num_frames = 16
batch_size = 8
# As mmaction2 fine-tunes it after MaskFeat, its one recipe with layer-wise decay.
optimizer = 'adamw'
lr = 9.6e-3
base_batch_size = 256
scale_lr = 'linear'
layer_decay = 0.75
warmup_epochs = 20
clip_grad = dict(max_norm=5)
label_smoothing = 0.1
color_jitter = None
rand_augment = 'm7-n2'
random_erasing = 'quarter'
repeats = 2
mixing = 'both'
starts = dict(
    k400=dict(
        weights='https://download.openmmlab.com/mmaction/v1.0/recognition/mvit/mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb/mvit-small-p244_32xb16-16x4x1-200e_kinetics400-rgb_20230201-23284ff3.pth',
        mean=[114.75, 114.75, 114.75], std=[57.375, 57.375, 57.375]),
    ssv2=dict(
        weights='https://download.openmmlab.com/mmaction/v1.0/recognition/mvit/mvit-small-p244_k400-pre_16xb16-u16-100e_sthv2-rgb/mvit-small-p244_k400-pre_16xb16-u16-100e_sthv2-rgb_20230201-4065c1b9.pth',
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
stages = dict(
    last=['backbone.norm3', 'backbone.blocks.14', 'backbone.blocks.15'],
    middle=[f'backbone.blocks.{i}' for i in range(3, 14)])
