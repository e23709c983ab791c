# The demo: a SlowOnly that learns the synthetic data in minutes on two CPU cores.
_base_ = '../slowonly/slowonly_scratch-r50_1xb16-uniform8-100e_hri30-rgb.py'

data_root = 'data/embedded'
split = dict(val_groups=4)  # for stopping and choosing; the test clips are other groups
input_size = (112, 72)  # width, height
decode_size = 80  # short side in pixels
num_workers = 0  # reading a decoded clip is quicker than passing it between processes
clip_cache = 'memmap'  # about 1 MB a clip
max_epochs = 50
warmup_epochs = 1
lr = 0.004
optimizer = 'adamw'
clip_grad = dict(max_norm=5)
color_jitter = dict(brightness=0, contrast=0, saturation=0)  # clothes and places vary
random_crop = dict(area_range=(0.8, 1.0), aspect_ratio_range=(0.87, 1.13))

# An eighth of a ResNet-18. Motion is seen by the first convolution alone, 9 frames long:
# in frames this small the worker moves a few pixels between two samples, which later stages
# no longer resolve, and the two time steps that are left make the rest cheap.
model = dict(
    backbone=dict(
        depth=18,
        stage_blocks=(1, 1, 1, 1),
        base_channels=16,
        conv1_kernel=(9, 5, 5),
        conv1_stride_t=4,
        inflate=(0, 0, 0, 0)),
    cls_head=dict(in_channels=128, dropout_ratio=0.2))
