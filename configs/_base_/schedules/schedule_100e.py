# At most 100 epochs with SGD, 5 epochs of warm-up, cosine decay.

# ---- Frequently modified: one line each, here or with --cfg-options --------------
max_epochs = 100
warmup_epochs = 5  # linear; 0: none
lr = 0.001  # for steps of base_batch_size clips
base_batch_size = 16  # clips
scale_lr = False  # True: scale lr to the clips of a step on all GPUs; 'linear': AdamW too
optimizer = 'sgd'  # a name in optimizers
momentum = None  # of SGD; None: that in optimizers, and so for the next two
weight_decay = None
betas = None  # of Adam and AdamW
decay = 'cosine'  # a name in decays
layer_decay = None  # of transformers: each layer's rate, as a share of the next one's
strategy = 'full'  # which parts learn, and when: a name in strategies
cache_features = None  # of a frozen backbone: None, or a name in feature_caches
features_dir = None  # of cached features, for other trainings too; None: in the work folder
precision = 'auto'  # or 'bf16', 'fp16' (CUDA), 'fp32'; auto: the fastest exact enough
accumulate = 1  # batches whose gradients make one step
clip_grad = dict(max_norm=1, norm_type=2)  # None: off
label_smoothing = 0  # share of the target spread over all classes, in [0, 1)
batch_norm = None  # 'frozen': keep the statistics of the loaded weights
sync_bn = None  # 'torch': BatchNorm over the clips of all GPUs (CUDA)
class_weights = None  # None, or 'balanced': inverse to a class's training clips
weight_averaging = None  # None, or a name in weight_averagings
seed = 42  # of weights, order and augmentation
deterministic = False  # True (or --deterministic): the same numbers twice, slower
# ----------------------------------------------------------------------------------

optimizers = dict(
    sgd=dict(type='SGD', lr='${lr}', momentum=0.9, weight_decay=1e-4, fused=True),
    adam=dict(
        type='Adam', lr='${lr}', betas=(0.9, 0.999), weight_decay=1e-4, fused=True),
    adamw=dict(
        type='AdamW', lr='${lr}', betas=(0.9, 0.999), weight_decay=0.05, fused=True))

decays = dict(
    constant=None,
    cosine=dict(
        type='CosineAnnealingLR', by_epoch=True, end='${max_epochs}',
        convert_to_iter_based=True),
    step=dict(type='StepLR', by_epoch=True, step_size=30, gamma=0.1),
    exponential=dict(type='ExponentialLR', by_epoch=True, gamma=0.95))

# part_lr_mult: factors of lr by the start of parameter names.
# schedule: the epoch (the first is 0) from which parts learn; before, they are frozen,
# BatchNorm statistics included. None: all learn from the start.
strategies = dict(
    full=dict(part_lr_mult=None, schedule=None),
    # Only the head learns.
    frozen_backbone=dict(
        part_lr_mult=None,
        schedule=dict(
            type='UnfreezeHook', schedule=[dict(begin=0, parts=['cls_head'])])),
    # The backbone learns at a tenth of the head's rate.
    backbone_tenth=dict(part_lr_mult=dict(backbone=0.1), schedule=None),
    # The head for 10 epochs, then all parts, the backbone at a tenth of the head's rate.
    progressive=dict(
        part_lr_mult=dict(backbone=0.1),
        schedule=dict(
            type='UnfreezeHook',
            schedule=[
                dict(begin=0, parts=['cls_head']),
                dict(begin=10, parts=['backbone']),
            ])),
    # The head for 10 epochs, then stage by stage, the last one first.
    stagewise=dict(
        part_lr_mult=dict(backbone=0.1),
        schedule=dict(
            type='UnfreezeHook',
            schedule=[
                dict(begin=0, parts=['cls_head']),
                dict(begin=10, parts='${stages.last}'),
                dict(begin=15, parts='${stages.middle}'),
                dict(begin=20, parts=['backbone']),
            ])))

# Parts of the backbone for stagewise, by the names of a ResNet.
stages = dict(last=['backbone.layer4'], middle=['backbone.layer3'])

# The backbone runs once per clip, and the head learns from stored features, so that the
# augmentation is fixed.
_features = dict(
    type='FeatureCacheHook', folder='${features_dir}',
    schedule='${strategies[strategy].schedule}')
feature_caches = dict(
    plain=_features,  # training clips in the view of the validation
    augmented=dict(**_features, augmented_views=5))  # one per epoch
del _features

precisions = dict(
    fp32='OptimWrapper', bf16='BF16OptimWrapper', fp16='AmpOptimWrapper')

batch_norms = dict(frozen=dict(type='FrozenBatchNormHook'))

class_weightings = dict(balanced=dict(type='ClassWeightsHook'))

weight_averagings = dict(
    # Over about the last tenth of all steps, and the last 1000 at most.
    ema=dict(
        type='StepEMAHook', ema_type='MomentumAnnealingEMA', momentum=0.001, gamma=10))

train_cfg = dict(
    type='ResumableTrainLoop', max_epochs='${max_epochs}', val_interval=1)
val_cfg = dict(type='ValLoop', fp16='${autocast}')  # in the precision of training
test_cfg = dict(type='TestLoop', fp16='${autocast}')

optim_wrapper = dict(
    type='${precisions[precision]}',
    constructor='PartwiseOptimWrapperConstructor',
    paramwise_cfg=dict(
        part_lr_mult='${strategies[strategy].part_lr_mult}', layer_decay='${layer_decay}'),
    optimizer='${optimizers[optimizer]}',
    clip_grad='${clip_grad}',
    accumulative_counts='${accumulate}')

# Left out where warmup_epochs is 0.
warmup = dict(
    type='LinearLR', start_factor=0.1, by_epoch=True, end='${warmup_epochs}',
    convert_to_iter_based=True)
# The two multiply, so that a run can be shorter than the warm-up.
param_scheduler = ['${warmup}', '${decays[decay]}']
randomness = dict(seed='${seed}', deterministic='${deterministic}')
