# ST-Adapter (arXiv 2206.13559) in a frozen CLIP ViT-B/16, with the released code's recipe
# for Something-Something V2, here with an adapter before the MLP alone.
_base_ = '../_base_/models/foundation.py'
backbone = 'clip-vitb16'
adapter = 'st-adapter'
probe = 'mean'
average_frames = True
cache_features = None  # adapters change the tokens
num_frames = 16

max_epochs = 50
warmup_epochs = 2
lr = 0.001
base_batch_size = 256
scale_lr = 'linear'
weight_decay = 0.01
clip_grad = None
early_stopping = None

flip = None  # 'label_aware' is this project's
color_jitter = None
rand_augment = 'm7-n4'
random_crop = dict(
    area_range=(0.08, 1.0),
    aspect_ratio_range=(0.5, 0.89))  # 3/4 to 4/3 in pixels of frames of 3:2
test_crops = 3

model = dict(cls_head=dict(init_std=0.02))
