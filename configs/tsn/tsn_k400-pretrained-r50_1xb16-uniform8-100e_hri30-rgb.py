# TSN R50 (arXiv 1608.00859) from Kinetics-400: the mean of 8 frames, no order among them.
_base_ = ['../_base_/models/tsn_r50.py', '../_base_/recipe.py']

input_format = 'NCHW'
starts = dict(
    k400=dict(
        weights='https://download.openmmlab.com/mmaction/v1.0/recognition/tsn/tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb/tsn_imagenet-pretrained-r50_8xb32-1x1x8-100e_kinetics400-rgb_20220906-2692d16c.pth',
        image_weights=None, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    imagenet=dict(
        weights=None,
        image_weights='https://download.pytorch.org/models/resnet50-11ad3fa6.pth',
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
