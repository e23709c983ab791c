# R(2+1)D-34 (arXiv 1711.11248) from Kinetics-400: 8 frames over the whole clip.
_base_ = ['../_base_/models/r2plus1d_r34.py', '../_base_/recipe.py']

starts = dict(k400=dict(
    weights='https://download.openmmlab.com/mmaction/v1.0/recognition/r2plus1d/r2plus1d_r34_8xb8-8x8x1-180e_kinetics400-rgb/r2plus1d_r34_8xb8-8x8x1-180e_kinetics400-rgb_20220812-47cfe041.pth',
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
