# SlowOnly R50, exactly as mmaction2 trains it on Kinetics-400 (8 frames, ResNet-50
# with temporal kernels in the last two stages, arXiv 1812.03982), with a head for
# this project's classes.
_base_ = 'mmaction::recognition/slowonly/slowonly_r50_8xb16-8x8x1-256e_kinetics400-rgb.py'

# Keep the model of that config; data and schedule are this project's. mmengine allows
# no key twice among bases, so what is not wanted is taken out here.
[_base_.pop(_key) for _key in set(_base_) - {'model'}]

model = dict(
    # Weights come from load_from, so the base's own download of ImageNet weights is off.
    backbone=dict(pretrained='${starts[start].image_weights}'),
    cls_head=dict(num_classes='${num_classes}', label_smooth_eps='${label_smoothing}'),
    data_preprocessor=dict(
        mean='${starts[start].mean}', std='${starts[start].std}',
        blending='${mixings[mixing]}'))
