# ir-CSN R50 (arXiv 1904.02811) from IG65M, then Kinetics-400: 32 frames.
_base_ = ['../_base_/models/ircsn_r50.py', '../_base_/recipe.py']

num_frames = 32
batch_size = base_batch_size = 8
lr = 0.0005  # for a batch of 8 clips
starts = dict(k400=dict(
    weights='https://download.openmmlab.com/mmaction/v1.0/recognition/csn/ircsn_ig65m-pretrained-r50-bnfrozen_8xb12-32x2x1-58e_kinetics400-rgb/ircsn_ig65m-pretrained-r50-bnfrozen_8xb12-32x2x1-58e_kinetics400-rgb_20220811-44395bae.pth',
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
