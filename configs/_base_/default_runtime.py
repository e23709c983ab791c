# mmaction2's runtime, and what this project adds to it.
_base_ = 'mmaction::_base_/default_runtime.py'

custom_imports = dict(imports=['hri30_ext'], allow_failed_imports=False)

default_hooks = dict(
    # The best by validation accuracy and the last are kept.
    checkpoint=dict(
        type='CheckpointHook', interval=1, max_keep_ckpts=1, save_best='top1',
        rule='greater'))
custom_hooks = [
    # min_delta is in nats; mmengine's default of 0.1 would stop almost at once.
    dict(
        type='EarlyStoppingHook',
        monitor='loss',
        rule='less',
        min_delta=0.001,
        patience=15),
    dict(type='CurvesHook'),
]

# mmengine smooths what has 'loss' in its name over the last 20 values; validation has one
# an epoch, and its loss would read as a mean over 20 epochs.
log_processor = dict(mean_pattern=r'^(?!loss$).*(loss|time|grad_norm)')

# The same seed gives the same split, order and augmentation.
randomness = dict(seed=42)
