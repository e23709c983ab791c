# TSM R50 (arXiv 1811.08383) from Kinetics-400: 8 frames, channels shifted between them.
_base_ = ['../_base_/models/tsm_r50.py', '../_base_/recipe.py']

input_format = 'NCHW'
starts = dict(
    k400=dict(
        weights='https://download.openmmlab.com/mmaction/v1.0/recognition/tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_kinetics400-rgb_20220831-64d69186.pth',
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    ssv2=dict(
        weights='https://download.openmmlab.com/mmaction/v1.0/recognition/tsm/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv2-rgb/tsm_imagenet-pretrained-r50_8xb16-1x1x8-50e_sthv2-rgb_20230317-be0fc26e.pth',
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
