# TIN R50 (arXiv 2001.06499) from Kinetics-400: 8 frames, channels shifted as is learnt.
_base_ = ['../_base_/models/tin_r50.py', '../_base_/recipe.py']

input_format = 'NCHW'
starts = dict(
    k400=dict(
        weights='https://download.openmmlab.com/mmaction/v1.0/recognition/tin/tin_kinetics400-pretrained-tsm-r50_1x1x8-50e_kinetics400-rgb/tin_kinetics400-pretrained-tsm-r50_1x1x8-50e_kinetics400-rgb_20220913-7f10d0c0.pth',
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    ssv2=dict(
        weights='https://download.openmmlab.com/mmaction/v1.0/recognition/tin/tin_imagenet-pretrained-r50_8xb6-1x1x8-40e_sthv2-rgb/tin_imagenet-pretrained-r50_8xb6-1x1x8-40e_sthv2-rgb_20220913-84f9b4b0.pth',
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
