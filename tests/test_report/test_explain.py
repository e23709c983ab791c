"""Where a model looks."""

import copy

import numpy as np
import pytest
import torch
from conftest import DEMO_CONFIG
from mmaction.registry import MODELS
from mmaction.structures import ActionDataSample
from mmaction.utils import GradCAM

from hri30_ext.config import load_config
from hri30_ext.names import VIDEO_SUFFIXES
from hri30_ext.report.explain import explain_clip, map_view
from hri30_ext.report.frames import read_clip

FRAMES, SIDE, CELL = 8, 64, 16  # 4 x 4 places
TOKENS = dict(embed_dims=32, num_heads=2, patch_size=CELL, num_frames=FRAMES)
TIMM = dict(type='TimmFrames', input_size=(SIDE, SIDE), num_frames=FRAMES, pretrained=None)
HF = dict(type='HFVideo', name='x', input_size=(SIDE, SIDE), num_frames=FRAMES,
          pretrained=None)
HF_SIZES = dict(hidden_size=32, num_attention_heads=2, num_hidden_layers=2, patch_size=CELL)
PATHWAY = dict(type='resnet3d', depth=18, pretrained=None, conv1_stride_t=1,
               pool1_stride_t=1)
#: Small models of each kind: a backbone, and the head of its family.
KINDS = {
    'slowfast': (dict(
        type='ResNet3dSlowFast', pretrained=None, resample_rate=4, speed_ratio=4,
        channel_ratio=2, slow_pathway=dict(
            PATHWAY, lateral=True, base_channels=8, conv1_kernel=(1, 7, 7),
            inflate=(0, 0, 1, 1)),
        fast_pathway=dict(
            PATHWAY, lateral=False, base_channels=4, conv1_kernel=(5, 7, 7))),
        dict(type='SlowFastHead', in_channels=96)),
    'cnn-lstm': (dict(type='ResNet', depth=18, pretrained=None),
                 dict(type='LSTMHead', in_channels=512, hidden_size=16)),
    'tsn': (dict(type='ResNet', depth=18, pretrained=None),
            dict(type='TSNHead', in_channels=512)),
    'swin': (dict(
        type='SwinTransformer3D', pretrained2d=False, window_size=(2, 4, 4),
        patch_size=(2, 2, 2), arch=dict(
            embed_dims=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 2])),
        dict(type='I3DHead', in_channels=128)),
    'mvit': (dict(
        type='MViT', spatial_size=SIDE, temporal_size=FRAMES, arch=dict(
            embed_dims=16, num_layers=4, num_heads=1, downscale_indices=[1, 2])),
        dict(type='MViTHead', in_channels=64)),
    'videomae': (dict(type='VisionTransformer', img_size=SIDE, depth=2, **TOKENS),
                 dict(type='TimeSformerHead', in_channels=32)),
    'uniformerv2': (dict(
        type='UniFormerV2', input_resolution=SIDE, patch_size=CELL, width=32, layers=2,
        heads=2, t_size=FRAMES, return_list=[1], n_layers=1, n_dim=32, n_head=2,
        mlp_dropout=[0], clip_pretrained=False),
        dict(type='TimeSformerHead', in_channels=32)),
    'class token': (dict(TIMM, name='test_vit'), dict(type='MeanProbe')),
    'register tokens': (dict(TIMM, name='test_vit4'), dict(type='AttentiveProbe')),
    'adapters': (dict(TIMM, name='test_vit', adapter=dict(type='STAdapter', channels=8)),
                 dict(type='MeanProbe')),
    'cnn of timm': (dict(TIMM, name='test_efficientnet'), dict(type='ConvProbe')),
    'swin of timm': (dict(TIMM, name='swin_tiny_patch4_window7_224'),
                     dict(type='STEPProbe', places=False)),
    'v-jepa': (dict(HF, architecture='VJEPA2Model', config=dict(
        HF_SIZES, pred_hidden_size=16, pred_num_attention_heads=2,
        pred_num_hidden_layers=1)), dict(type='ConvProbe')),
    'videomae of transformers': (dict(HF, architecture='VideoMAEModel', config=dict(
        HF_SIZES, intermediate_size=32)), dict(type='MeanProbe')),
}
#: Frames and pixels of a place that can be told from others, where not 2 and CELL. The last
#: step of an LSTM counts alone; MViT's convolutions reach beyond the frame everywhere.
PLACES = {'slowfast': (4, 32), 'cnn-lstm': (FRAMES, 32), 'tsn': (2, 32),
          'cnn of timm': (2, 32), 'swin of timm': (2, 32), 'mvit': (FRAMES, SIDE)}


def build(kind):
    """Returns a model with random weights; what speaks for class 0 is against class 1."""
    backbone, head = KINDS[kind]
    frames = dict(type='ActionDataPreprocessor', format_shape='NCTHW')
    kind = 'FoundationRecognizer'
    if head['type'].endswith('Probe'):
        head = dict(type='ProbeHead', probe=head)
    else:
        two = backbone['type'] == 'ResNet'
        kind = 'Recognizer2D' if two else 'Recognizer3D'
        frames.update(mean=[0] * 3, std=[64] * 3, format_shape='NCHW' if two else 'NCTHW')
    model = MODELS.build(dict(type=kind, backbone=backbone, data_preprocessor=frames,
                              cls_head=dict(head, num_classes=2)))
    for name, tensor in model.state_dict().items():
        if 'pos' in name:
            tensor.zero_()
    last = [module for module in model.cls_head.modules()
            if isinstance(module, torch.nn.Linear)][-1]
    last.weight.data[0] = -last.weight.data[1]
    return model


def pack(model, video_THWC):
    """Returns frames as the test pipeline packs them for the model."""
    frames = torch.from_numpy(video_THWC).permute(0, 3, 1, 2)
    two = type(model).__name__ == 'Recognizer2D'
    return frames if two else frames.transpose(0, 1)[None]


def snapshot(model):
    return (
        [(module.training, len(module._forward_hooks), len(module._forward_pre_hooks))
         for module in model.modules()],
        [(parameter.requires_grad, parameter.grad) for parameter in model.parameters()],
        {name: tensor.numpy().copy() for name, tensor in model.state_dict().items()})


@pytest.mark.parametrize('kind', KINDS)
def test_each_kind_of_model_shows_a_place_unlike_the_others_and_stays_as_it_is(kind):
    model = build(kind).eval()
    for parameter in list(model.parameters())[::2]:
        parameter.requires_grad = False
    video_THWC = np.full((FRAMES, SIDE, SIDE, 3), 40, np.uint8)
    video_THWC[2:4, 48:, 16:32] = 220, 140, 10
    before = snapshot(model)
    maps = [map_view(model, pack(model, video_THWC), label) for label in (0, 1, 0)]
    np.testing.assert_equal(snapshot(model), before)
    for map_THW in maps:
        assert map_THW.shape == (FRAMES, SIDE, SIDE) and map_THW.dtype == np.float32
        assert map_THW.min() >= 0 and map_THW.max() in (0, 1)
    np.testing.assert_array_equal(maps[0], maps[2])
    # It speaks for one class or for the other.
    frames, pixels = PLACES.get(kind, (2, CELL))
    peaks = [np.unravel_index(map_THW.argmax(), map_THW.shape) for map_THW in maps[:2]]
    assert any((t // frames, y // pixels, x // pixels) == (
        2 // frames, 48 // pixels, 16 // pixels) for t, y, x in peaks), peaks


class OnePatch(torch.nn.Module):
    """A head for which one patch of one frame counts, for class 0 and against class 1."""

    def __init__(self, channels):
        super().__init__()
        self.weight_D = torch.nn.Parameter(torch.randn(channels))

    def forward(self, x_NSPD, **kwargs):
        score_N = x_NSPD[:, 5, 1 + 6] @ self.weight_D
        return torch.stack([score_N, -score_N], 1)


def test_only_the_patch_that_a_transformer_reads_is_shown():
    model = build('class token')
    model.cls_head = OnePatch(model.backbone.embed_dims)
    # Attention would bring other patches in.
    torch.nn.init.zeros_(model.backbone.model.blocks[-1].attn.proj.weight)
    video_THWC = np.full((FRAMES, SIDE, SIDE, 3), 40, np.uint8)
    video_THWC[5, CELL:2 * CELL, 2 * CELL:3 * CELL] = 220, 140, 10  # patch 6 of frame 5
    maps = [map_view(model, pack(model, video_THWC), label) for label in (0, 1)]
    shown, = (map_THW for map_THW in maps if map_THW[5, 24, 40] > .99)
    # Gradients are averaged over neighbours, so that the last row has none.
    assert not shown[:4].any() and not shown[7].any() and not shown[:, 56:].any()


@pytest.mark.parametrize('kind', ['slowonly', 'tsn'])
def test_of_a_cnn_it_is_grad_cam(kind, model):
    model = build('tsn').eval() if kind == 'tsn' else model
    video_THWC = np.random.default_rng(0).integers(0, 256, (4, 96, 128, 3), np.uint8)
    view = pack(model, video_THWC)
    label = next(label for label in range(3) if map_view(model, view, label).any())
    found = map_view(model, view, label)
    sample = ActionDataSample().set_gt_label(label)
    expected_1THW, _ = GradCAM(model, 'backbone/layer4')._calculate_localization_map(
        dict(inputs=[view], data_samples=[sample]), use_labels=True)
    found -= found.min()  # as mmaction2 does
    np.testing.assert_allclose(found / found.max(), expected_1THW[0], atol=1e-4)


@pytest.fixture
def cfg(options):
    # Large enough that a map has several places.
    return load_config(DEMO_CONFIG, {**options, 'input_size': (128, 96)})


@pytest.fixture
def model(cfg):
    return MODELS.build(cfg.model).eval()


@pytest.fixture
def clip(clips_root, cfg):
    path = next(file for file in sorted(clips_root.rglob('*'))
                if file.suffix in VIDEO_SUFFIXES)
    return read_clip(str(path), cfg)


def test_frames_are_coloured_by_class(model, clip):
    (first, reason), (second, _) = (explain_clip(model, clip, label) for label in (0, 2))
    assert reason == ''
    assert first.shape == (4, 96, 128, 3) and first.dtype == np.uint8
    assert (first != second).any()
    model.backbone = torch.nn.Flatten()  # as C3D, whose features are vectors
    frames, reason = explain_clip(model, clip, 0)
    assert frames is None and 'Flatten' in reason


def test_a_map_before_a_normalisation_is_no_rounding_error():
    model = build('mvit')
    video_THWC = np.random.default_rng(0).integers(
        0, 256, (FRAMES, SIDE, SIDE, 3), np.uint8)
    single, double = (map_view(one, pack(one, video_THWC), 0)
                      for one in (model, copy.deepcopy(model).double()))
    np.testing.assert_allclose(single, double, atol=1e-3)
