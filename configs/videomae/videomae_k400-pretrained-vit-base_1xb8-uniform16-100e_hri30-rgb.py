# VideoMAE ViT-B (arXiv 2203.12602), pre-trained and fine-tuned on Kinetics-400: 16 frames.
_base_ = ['../_base_/models/videomae_vit_base.py', '../_base_/recipe.py']

num_frames = 16
batch_size = 8
# As its authors fine-tune it: the defaults of run_class_finetuning.py of MCG-NJU/VideoMAE,
# with the rate of Something-Something and UCF-101.
optimizer = 'adamw'
lr = 5e-4
base_batch_size = 256
scale_lr = 'linear'
layer_decay = 0.75
clip_grad = None
label_smoothing = 0.1
color_jitter = None
rand_augment = 'm7-n4'
random_erasing = 'quarter'
repeats = 2
mixing = 'both'
_normalisation = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375])
starts = dict(
    k400=dict(
        weights='https://download.openmmlab.com/mmaction/v1.0/recognition/videomae/vit-base-p16_videomae-k400-pre_16x4x1_kinetics-400_20221013-860a3cd3.pth',
        **_normalisation),
    # VideoMAE V2 (arXiv 2303.16727), distilled from ViT-g.
    v2=dict(
        weights='https://download.openmmlab.com/mmaction/v1.0/recognition/videomaev2/vit-base-p16_videomaev2-vit-g-dist-k710-pre_16x4x1_kinetics-400/vit-base-p16_videomaev2-vit-g-dist-k710-pre_16x4x1_kinetics-400_20230510-3e7f93b2.pth',
        **_normalisation),
    # Something-Something V2: made by hri30 convert-weights, see docs/models.md.
    ssv2=dict(weights='videomae-base-finetuned-ssv2.safetensors', **_normalisation))
stages = dict(
    last=['backbone.fc_norm', *[f'backbone.blocks.{i}' for i in range(8, 12)]],
    middle=[f'backbone.blocks.{i}' for i in range(4, 8)])
