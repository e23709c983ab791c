# The demo: a SlowOnly that learns the embedded data in minutes on two CPU cores.
_base_ = '../slowonly/slowonly_scratch-r50_1xb16-uniform8-100e_hri30-rgb.py'

data_root = 'data/embedded'
split = dict(val_groups=4)  # for stopping and choosing; the test clips are other groups
input_size = (112, 72)  # width, height
num_workers = 0  # reading a decoded clip is quicker than passing it between processes
max_epochs = 50
warmup_epochs = 1
lr = 0.004
optimizer = 'adamw'
precision = 'bf16'
clip_grad = dict(max_norm=5)
random_crop = dict(area_range=(0.8, 1.0), aspect_ratio_range=(1.3, 1.7))
decode_size = 80  # short side in pixels
cache_dir = 'work_dirs/cache'  # decoded clips, about 1 MB each
leak_check = 'exact'  # rendered one by one: comparing their frames as well takes a minute

# A quarter of a ResNet-18. Motion is seen by the first convolution alone, 9 frames long:
# in frames this small the worker moves a few pixels between two samples, which later stages
# no longer resolve, and the two time steps that are left make the rest cheap.
model = dict(
    backbone=dict(
        depth=18,
        stage_blocks=(1, 1, 1, 1),
        base_channels=32,
        conv1_kernel=(9, 7, 7),
        conv1_stride_t=4,
        inflate=(0, 0, 0, 0)),
    cls_head=dict(in_channels=256, dropout_ratio=0.2))

train_pipeline = [
    dict(type='ClipInit', short_side='${decode_size}', cache_dir='${cache_dir}'),
    dict(type='UniformSample', clip_len='${num_frames}'),
    dict(type='ArrayDecode'),
    '${random_crop}',
    dict(type='Resize', scale='${input_size}', keep_ratio=False),
    '${flips[flip]}',
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs', meta_keys=('video_id', 'group', 'filename')),
]
test_pipeline = [
    dict(type='ClipInit', short_side='${decode_size}'),
    dict(type='UniformViews', clip_len='${num_frames}', num_clips='${test_clips}',
         test_mode=True),
    dict(type='ArrayDecode'),
    dict(type='Resize', scale='${input_size}', keep_ratio=False),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs', meta_keys=('video_id', 'group', 'filename')),
]
# Validation sees the same clips after every epoch; testing sees each clip once.
val_dataloader = dict(
    dataset=dict(pipeline=[train_pipeline[0], *test_pipeline[1:]]))

custom_hooks = [*_base_.custom_hooks, dict(type='ChannelsLastHook')]
