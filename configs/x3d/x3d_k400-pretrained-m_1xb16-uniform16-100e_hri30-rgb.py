# X3D-M (arXiv 2004.04730) from Kinetics-400: 16 frames.
_base_ = ['../_base_/models/x3d.py', '../_base_/recipe.py']

num_frames = 16
starts = dict(k400=dict(
    weights='https://download.openmmlab.com/mmaction/v1.0/recognition/x3d/facebook/x3d_m_16x5x1_facebook-kinetics400-rgb_20201027-3f42382a.pth',
    mean=[114.75, 114.75, 114.75], std=[57.38, 57.38, 57.38]))
# conv5 follows layer4.
stages = dict(last=['backbone.conv5', 'backbone.layer4'])
