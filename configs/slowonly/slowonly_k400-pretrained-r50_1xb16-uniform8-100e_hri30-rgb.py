# The primitive: SlowOnly R50 from Kinetics-400, 8 frames over the whole clip.
_base_ = ['../_base_/models/slowonly_r50.py', '../_base_/recipe.py']

# Downloaded on first use; a path of the same file serves as well.
starts = dict(
    k400='https://download.openmmlab.com/mmaction/v1.0/recognition/slowonly/slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb/slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb_20220901-2132fc87.pth',
    imagenet='https://download.pytorch.org/models/resnet50-11ad3fa6.pth')
