# Video Swin-T (arXiv 2106.13230) from Kinetics-400: 32 frames.
_base_ = ['../_base_/models/swin_tiny.py', '../_base_/recipe.py']

num_frames = 32
batch_size = 8
precision = 'bf16'  # mmaction2's batch of 8 takes 21 GB in half precision
# As mmaction2 trains it on Kinetics-400, without layer-wise decay, mixing and RandAugment.
optimizer = 'adamw'
lr = 1e-3
base_batch_size = 64
scale_lr = 'linear'
weight_decay = 0.02
strategy = 'backbone_tenth'
clip_grad = None
starts = dict(k400=dict(
    weights='https://download.openmmlab.com/mmaction/v1.0/recognition/swin/swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb/swin-tiny-p244-w877_in1k-pre_8xb8-amp-32x2x1-30e_kinetics400-rgb_20220930-241016b2.pth',
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
stages = dict(last=['backbone.norm3', 'backbone.layers.3'], middle=['backbone.layers.2'])
