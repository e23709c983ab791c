# CNN-LSTM R50 (after arXiv 1411.4389) from ImageNet: 8 frames, read in order.
_base_ = ['../_base_/models/cnn_lstm_r50.py', '../_base_/recipe.py']

input_format = 'NCHW'
start = 'imagenet'  # no video weights of it are published
starts = dict(imagenet=dict(
    weights=None,
    image_weights='https://download.pytorch.org/models/resnet50-11ad3fa6.pth',
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))
# An LSTM from random weights learns slowly by SGD; the backbone learns at a tenth.
optimizer = 'adamw'
lr = 0.001
strategy = 'backbone_tenth'
