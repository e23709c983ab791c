# mmaction2's runtime, with this project's hooks.
_base_ = 'mmaction::_base_/default_runtime.py'

# ---- Frequently modified: one line each, here or with --cfg-options --------------
start = 'k400'  # weights to start from: a name in starts
load_from = '${starts[start].weights}'  # or a file or URL; None: random weights
early_stopping = dict(  # None: off
    type='ResumableEarlyStoppingHook',
    monitor='loss',  # of the validation clips, in nats
    min_delta=0.001,
    patience=15)  # epochs
save_best = 'top1'  # or 'loss', or any other metric of the validation
snapshot_interval = None  # 10: keep the checkpoint of every tenth epoch
tracker = None  # None, or a name in trackers
max_skipped = 0.05  # share of the training clips that may be unreadable; 0: none, 1: all
report = True  # a report.html in each result folder
peer_timeout = 600  # seconds until another process that does not answer counts as lost
# ----------------------------------------------------------------------------------

custom_imports = dict(imports=['hri30_ext.modules'], allow_failed_imports=False)

default_hooks = dict(
    runtime_info=dict(type='LearningRatesHook'),
    # Keeps the best and the last two, in case one is damaged.
    checkpoint=dict(
        type='ValidatedCheckpointHook', interval=1, max_keep_ckpts=2,
        save_best='${save_best}', snapshot_interval='${snapshot_interval}'))
custom_hooks = [
    '${early_stopping}',
    '${strategies[strategy].schedule}',
    '${batch_norms[batch_norm]}',
    '${weight_averagings[weight_averaging]}',
    '${class_weightings[class_weights]}',
    '${feature_caches[cache_features]}',
    dict(type='SkippedVideosHook', max_skipped='${max_skipped}'),
    dict(type='CurvesHook'),
]
# Convolutions benchmark their algorithms once, except in deterministic runs.
env_cfg = dict(cudnn_benchmark=True, dist_cfg=dict(timeout='${peer_timeout}'))

# Weights are a file or a URL; image_weights are those of a 2D network, which the backbone
# inflates; mean and std are of the frames that either knows, RGB in [0, 255].
starts = dict(none=dict(
    weights=None, image_weights=None,
    mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]))

# Scalars of the run, for other programs.
trackers = dict(tensorboard=dict(type='TensorboardVisBackend'))
visualizer = dict(vis_backends=[dict(type='LocalVisBackend'), '${trackers[tracker]}'])

# mmengine averages losses over the last 20 values; validation has one per epoch, so that
# its loss would be a mean over 20 epochs.
log_processor = dict(mean_pattern=r'^(?!loss$).*(loss|time|grad_norm)')
