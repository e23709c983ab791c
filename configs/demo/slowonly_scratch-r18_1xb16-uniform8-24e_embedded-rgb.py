# The demo: a SlowOnly that learns the embedded data in minutes on two CPU cores.
_base_ = '../slowonly/slowonly_scratch-r50_1xb16-uniform8-100e_hri30-rgb.py'

data_root = 'data/embedded'
split = dict(val_groups=4)  # for stopping and choosing; the test clips are other groups
input_size = (112, 72)  # width, height
max_epochs = 24
warmup_epochs = 1
lr = 0.003
decode_size = 80  # short side in pixels
cache_dir = 'work_dirs/cache'  # decoded clips, about 1 MB each

# A quarter of a ResNet-18, with temporal kernels from the first stage on: in frames this
# small, what moves is a few pixels wide and must be seen before the resolution is gone.
model = dict(
    backbone=dict(
        depth=18, stage_blocks=(1, 1, 1, 1), base_channels=32, conv1_kernel=(5, 7, 7),
        conv1_stride_t=2),
    cls_head=dict(in_channels=256, dropout_ratio=0.2))

train_pipeline = [
    dict(type='ClipInit', short_side='${decode_size}', cache_dir='${cache_dir}'),
    dict(type='UniformSample', clip_len='${num_frames}'),
    dict(type='ArrayDecode'),
    dict(type='RandomResizedCrop', area_range=(0.7, 1.0), aspect_ratio_range=(1.3, 1.7)),
    dict(type='Resize', scale='${input_size}', keep_ratio=False),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs', meta_keys=('video_id', )),
]
test_pipeline = [
    dict(type='ClipInit', short_side='${decode_size}'),
    dict(type='UniformSample', clip_len='${num_frames}', test_mode=True),
    dict(type='ArrayDecode'),
    dict(type='Resize', scale='${input_size}', keep_ratio=False),
    dict(type='FormatShape', input_format='NCTHW'),
    dict(type='PackActionInputs', meta_keys=('video_id', )),
]
# Validation sees the same clips after every epoch; testing sees each clip once.
val_dataloader = dict(
    dataset=dict(pipeline=[train_pipeline[0], *test_pipeline[1:]]))

optim_wrapper = dict(
    _delete_=True,
    type='BF16OptimWrapper',
    optimizer=dict(type='AdamW', lr='${lr}', weight_decay=0.05),
    clip_grad=dict(max_norm=5))
custom_hooks = [
    dict(
        type='EarlyStoppingHook',
        monitor='loss',
        rule='less',
        min_delta=0.001,
        patience=15),
    dict(type='CurvesHook'),
    dict(type='ChannelsLastHook'),
]
