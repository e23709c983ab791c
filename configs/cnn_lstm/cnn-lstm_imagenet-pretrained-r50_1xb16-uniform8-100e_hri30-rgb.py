# CNN-LSTM R50 (after arXiv 1411.4389) from ImageNet: 8 frames, read in order.
_base_ = ['../_base_/models/cnn_lstm_r50.py', '../_base_/recipe.py']

input_format = 'NCHW'
start = 'none'  # no video weights of it are published
# An LSTM from random weights learns slowly by SGD; the backbone learns at a tenth.
optimizer = 'adamw'
lr = 0.001
strategy = 'backbone_tenth'
