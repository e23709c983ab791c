# SlowFast R50 8x8 (arXiv 1812.03982) from Kinetics-400: 32 frames, 8 of them slow.
_base_ = ['../_base_/models/slowfast_r50.py', '../_base_/recipe.py']

num_frames = 32
starts = dict(k400=dict(
    weights='https://download.openmmlab.com/mmaction/v1.0/recognition/slowfast/slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb/slowfast_r50_8xb8-8x8x1-256e_kinetics400-rgb_20220818-1cb6dfc8.pth',
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
stages = dict(
    last=['backbone.slow_path.layer4', 'backbone.fast_path.layer4'],
    middle=['backbone.slow_path.layer3', 'backbone.fast_path.layer3'])
