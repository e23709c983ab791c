# X3D-S (arXiv 2004.04730) from Kinetics-400: 13 frames, 160 x 160.
_base_ = 'x3d_k400-pretrained-m_1xb16-uniform16-100e_hri30-rgb.py'

num_frames = 13
input_size = (160, 160)
decode_size = 182  # short side in pixels
starts = dict(k400=dict(
    weights='https://download.openmmlab.com/mmaction/v1.0/recognition/x3d/facebook/x3d_s_13x6x1_facebook-kinetics400-rgb_20201027-623825a0.pth'))
