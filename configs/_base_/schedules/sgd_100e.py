# SGD, 100 epochs at most, 5 of warm-up, cosine decay, early stopping.

# ---- Frequently modified ----
max_epochs = 100
warmup_epochs = 5
lr = 0.001  # for a batch of 16 clips
# -----------------------------

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs='${max_epochs}', val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    optimizer=dict(type='SGD', lr='${lr}', momentum=0.9, weight_decay=1e-4),
    clip_grad=dict(max_norm=1, norm_type=2))
# The two multiply: a linear warm-up on top of a cosine over the whole run, so that a
# run shorter than the warm-up is valid too.
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.1,
        by_epoch=True,
        end='${warmup_epochs}',
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        end='${max_epochs}',
        convert_to_iter_based=True),
]
