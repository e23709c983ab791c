# The primitive: SlowOnly R50 from Kinetics-400, 8 frames over the whole clip.
_base_ = ['../_base_/models/slowonly_r50.py', '../_base_/recipe.py']

# Downloaded on first use; a path of the same file serves as well.
starts = dict(
    k400=dict(
        weights='https://download.openmmlab.com/mmaction/v1.0/recognition/slowonly/slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb/slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb_20220901-2132fc87.pth',
        image_weights=None, mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    imagenet=dict(
        weights=None,
        image_weights='https://download.pytorch.org/models/resnet50-11ad3fa6.pth',
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    pytorchvideo=dict(
        weights='SLOW_8x8_R50.safetensors',
        image_weights=None, mean=[114.75, 114.75, 114.75], std=[57.375, 57.375, 57.375]))
