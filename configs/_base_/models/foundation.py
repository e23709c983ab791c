# A frozen model that was trained on images or videos, with a probe on its tokens or
# adapters in its blocks: the whole recipe.
_base_ = '../recipe.py'

# ---- Frequently modified: a variant or --cfg-options sets these, nothing else ----
backbone = 'dinov2-vitb14'  # a name in backbones
probe = 'conv'  # a name in probes
adapter = None  # None, or a name in adapters: it learns too, so that nothing is cached
average_frames = False  # True: before the last norm, as adapters are published; ViTs of timm
cache_features = 'plain'  # 'augmented': feature_caches.augmented.augmented_views draws
start = 'none'  # load_from: a .safetensors or .pth file with the backbone
max_epochs = 30
warmup_epochs = 1
optimizer = 'adamw'
lr = 0.001
# ----------------------------------------------------------------------------------

_frames = dict(
    type='TimmFrames', input_size='${input_size}', num_frames='${num_frames}',
    adapter='${adapters[adapter]}', average='${average_frames}', pretrained='hub')
_video = {**_frames, 'type': 'HFVideo'}
backbones = {
    'dinov2-vitb14': dict(**_frames, name='vit_base_patch14_dinov2.lvd142m'),
    'dinov2-vits14': dict(**_frames, name='vit_small_patch14_dinov2.lvd142m'),
    'dinov3-vitb16': dict(**_frames, name='vit_base_patch16_dinov3.lvd1689m'),
    # quickgelu: the activation that OpenAI trained with; without it, timm takes another.
    'clip-vitb16': dict(**_frames, name='vit_base_patch16_clip_quickgelu_224.openai'),
    'siglip2-vitb16': dict(**_frames, name='vit_base_patch16_siglip_224.v2_webli'),
    'eva02-vitb14': dict(**_frames, name='eva02_base_patch14_224.mim_in22k'),
    'efficientnet-lite0': {
        **_frames, 'name': 'tf_efficientnet_lite0.in1k', 'pretrained': 'package'},
    'vjepa2-vitl': dict(
        **_video, name='facebook/vjepa2-vitl-fpc64-256', architecture='VJEPA2Model'),
    'videomae-vitb': dict(
        **_video, name='MCG-NJU/videomae-base', architecture='VideoMAEModel',
        config=dict(use_mean_pooling=False)),
    # Fine-tuned on Something-Something V2; the first brings weights of attentive-vjepa2.
    'vjepa2-vitl-ssv2': dict(
        **_video, name='facebook/vjepa2-vitl-fpc16-256-ssv2', architecture='VJEPA2Model'),
    'videomae-vitb-ssv2': dict(
        **_video, name='MCG-NJU/videomae-base-finetuned-ssv2',
        architecture='VideoMAEModel'),
}
del _frames, _video
probes = {
    'mean': dict(type='MeanProbe'),
    'attentive': dict(type='AttentiveProbe'),
    'attentive-vjepa2': dict(type='VJEPA2AttentiveProbe'),
    'step': dict(type='STEPProbe'),
    'conv': dict(type='ConvProbe'),
}
adapters = {
    'st-adapter': dict(type='STAdapter'),  # before='both': before attention too
    # The kernel of the released models; [3, 3, 3] has the paper's number of parameters.
    'frame2freq': dict(type='Frame2FreqAdapter', kernel=(3, 1, 1)),
}

# What is not frozen learns: the probe, adapters and the classifier.
strategies = dict(_delete_=True, full=dict(part_lr_mult=None, schedule=None))
feature_caches = dict(augmented=dict(augmented_views=2))

model = dict(
    type='FoundationRecognizer',
    backbone='${backbones[backbone]}',
    cls_head=dict(
        type='ProbeHead',
        probe='${probes[probe]}',
        num_classes='${num_classes}',
        label_smooth_eps='${label_smoothing}',
        average_clips='prob'),
    data_preprocessor=dict(
        type='ActionDataPreprocessor', format_shape='NCTHW',
        blending='${mixings[mixing]}'))
