# An embedded real start: a convolutional probe on a frozen EfficientNet-Lite0 of ImageNet.
_base_ = '../_base_/models/foundation.py'
backbone = 'efficientnet-lite0'
data_root = 'data/embedded'
split = dict(val_groups=4)  # for stopping and choosing; the test clips are other groups
clip_grad = dict(max_norm=5)
cache_features = 'augmented'
max_epochs = 8
color_jitter = dict(brightness=0, contrast=0, saturation=0)  # clothes and places vary
random_crop = dict(area_range=(0.8, 1.0), aspect_ratio_range=(0.87, 1.13))
