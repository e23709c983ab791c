# How a model is trained: 100 epochs at most, SGD, 5 epochs of warm-up, cosine decay.

# ---- Frequently modified: one line each, here or with --cfg-options --------------
max_epochs = 100
warmup_epochs = 5  # linear; 0: none
lr = 0.001  # for a batch of 16 clips
optimizer = 'sgd'  # a name in optimizers
decay = 'cosine'  # a name in decays
strategy = 'full'  # what is trained, and when: a name in strategies
precision = 'fp32'  # 'fp32', 'bf16' (also on the CPU) or 'fp16' (CUDA)
accumulate = 1  # batches whose gradients make one step
clip_grad = dict(max_norm=1, norm_type=2)  # None: off
label_smoothing = 0  # share of the target spread over all classes, in [0, 1)
class_weights = None  # None, or 'balanced': inverse to a class's training clips
weight_averaging = None  # None, or a name in weight_averagings
seed = 42  # of weights, order and augmentation
deterministic = False  # True (or --deterministic): the same numbers twice, slower
# ----------------------------------------------------------------------------------

optimizers = dict(
    sgd=dict(type='SGD', lr='${lr}', momentum=0.9, weight_decay=1e-4),
    adam=dict(type='Adam', lr='${lr}', weight_decay=1e-4),
    adamw=dict(type='AdamW', lr='${lr}', weight_decay=0.05))

decays = dict(
    constant=None,
    cosine=dict(
        type='CosineAnnealingLR', by_epoch=True, end='${max_epochs}',
        convert_to_iter_based=True),
    step=dict(type='StepLR', by_epoch=True, step_size=30, gamma=0.1),
    exponential=dict(type='ExponentialLR', by_epoch=True, gamma=0.95))

# part_lr_mult: factors of lr by the beginning of parameter names.
# schedule: from which epoch on (0 is the first) which parts are trained; until then they
# are frozen, BatchNorm statistics included. None: all from the start.
strategies = dict(
    full=dict(part_lr_mult=None, schedule=None),
    # The head alone learns.
    frozen_backbone=dict(
        part_lr_mult=None,
        schedule=dict(
            type='UnfreezeHook', schedule=[dict(begin=0, parts=['cls_head'])])),
    # The backbone learns at a tenth of the head's rate.
    backbone_tenth=dict(part_lr_mult=dict(backbone=0.1), schedule=None),
    # The head for 10 epochs, then all, the backbone at a tenth of the head's rate.
    progressive=dict(
        part_lr_mult=dict(backbone=0.1),
        schedule=dict(
            type='UnfreezeHook',
            schedule=[
                dict(begin=0, parts=['cls_head']),
                dict(begin=10, parts=['backbone']),
            ])),
    # The head for 10 epochs, then stage by stage, the last one first. The names are
    # those of a ResNet.
    stagewise=dict(
        part_lr_mult=dict(backbone=0.1),
        schedule=dict(
            type='UnfreezeHook',
            schedule=[
                dict(begin=0, parts=['cls_head']),
                dict(begin=10, parts=['backbone.layer4']),
                dict(begin=15, parts=['backbone.layer3']),
                dict(begin=20, parts=['backbone']),
            ])))

precisions = dict(
    fp32='OptimWrapper', bf16='BF16OptimWrapper', fp16='AmpOptimWrapper')

class_weightings = dict(balanced=dict(type='ClassWeightsHook'))

weight_averagings = dict(
    # Over about the last tenth of all steps, and the last 1000 at most.
    ema=dict(type='EMAHook', ema_type='MomentumAnnealingEMA', momentum=0.001, gamma=10))

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs='${max_epochs}', val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

optim_wrapper = dict(
    type='${precisions[precision]}',
    constructor='PartwiseOptimWrapperConstructor',
    paramwise_cfg=dict(part_lr_mult='${strategies[strategy].part_lr_mult}'),
    optimizer='${optimizers[optimizer]}',
    clip_grad='${clip_grad}',
    accumulative_counts='${accumulate}')

# Left out where warmup_epochs is 0.
warmup = dict(
    type='LinearLR', start_factor=0.1, by_epoch=True, end='${warmup_epochs}',
    convert_to_iter_based=True)
# The two multiply, so that a run shorter than the warm-up is valid too.
param_scheduler = ['${warmup}', '${decays[decay]}']
randomness = dict(seed='${seed}', deterministic='${deterministic}')
