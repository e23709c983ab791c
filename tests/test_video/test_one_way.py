"""One way for pixels: from a file to its scores, every way sees the same frames."""

import asyncio
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from conftest import CLASSES, DEMO_CONFIG
from mmaction.apis import inference_recognizer, init_recognizer
from mmaction.registry import MODELS

from hri30_ext.apis.exporting import export
from hri30_ext.apis.recognizer import Recognizer
from hri30_ext.config import load_config
from hri30_ext.deploy.serve.decoding import decode_clip
from hri30_ext.deploy.serve.settings import Settings
from hri30_ext.deploy.torch_backend import Whole
from hri30_ext.video.decode import Video

UNEVEN = np.cumsum([40, 33, 33, 70, 10, 50] * 5).tolist()  # milliseconds

# Name of the file, frames, (width, height), and how it is written.
CLIPS = {
    'mpeg4-15.avi': (20, (96, 64), dict(rate=15)),
    'mpeg4-30.avi': (30, (180, 120), dict()),
    'mpeg4-60.avi': (60, (96, 64), dict(rate=60)),
    'mpeg4-b.avi': (25, (160, 96), dict(options={'bf': '2'})),
    'mpeg4.mp4': (30, (96, 64), dict(rate=Fraction(30000, 1001))),
    'h264-15.mp4': (20, (180, 120), dict(codec='libx264', rate=15)),
    'h264-30.mkv': (33, (96, 64), dict(codec='libx264', options={'bf': '3'})),
    'h264-60.mov': (45, (240, 160), dict(codec='libx264', rate=60)),
    'h264-10-bit.mkv': (24, (180, 120), dict(codec='libx264', pix_fmt='yuv420p10le')),
    'h264-422.mkv': (24, (96, 64), dict(codec='libx264', pix_fmt='yuv422p')),
    'h264-hd-bt709.mp4': (10, (1280, 720), dict(codec='libx264', bt709=True)),
    'mpeg2-b.mpg': (26, (160, 96), dict(codec='mpeg2video', options={'bf': '2'})),
    'mjpeg-full-range.avi': (21, (96, 64), dict(codec='mjpeg', pix_fmt='yuvj420p')),
    'interlaced-dv.avi': (10, (720, 480), dict(codec='dvvideo', pix_fmt='yuv411p',
                                               rate=Fraction(30000, 1001))),
    'interlaced.dv': (12, (720, 480), dict(codec='dvvideo', pix_fmt='yuv411p',
                                           rate=Fraction(30000, 1001))),
    'interlaced-mpeg2.avi': (15, (180, 128), dict(
        codec='mpeg2video', options={'flags': '+ildct+ilme', 'top': '1'})),
    'uneven.mkv': (30, (96, 64), dict(times=UNEVEN)),
    'uneven.mp4': (30, (96, 64), dict(codec='libx264', times=UNEVEN)),
    'odd.avi': (17, (97, 65), dict(codec='ffv1', pix_fmt='bgr0')),
    'odd-portrait.mkv': (19, (75, 131), dict(codec='libx264', pix_fmt='yuv444p')),
    'phone-90.mp4': (20, (180, 120), dict(codec='libx264', turned=90)),
    'phone-180.mov': (20, (180, 120), dict(codec='libx264', turned=180)),
    'one-frame.avi': (1, (96, 64), dict()),
    'three-seconds.avi': (90, (96, 64), dict()),
}


def draw(count, size, seed):
    """A square that moves over a coloured pattern, (count, H, W, 3) uint8."""
    width, height = size
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 9, 3), np.uint8)
    ground = small[np.arange(height) * 6 // height][:, np.arange(width) * 9 // width]
    frames = np.repeat(ground[None], count, axis=0)
    side = min(size) // 4
    for i, frame in enumerate(frames):
        left = (width - side) * i // max(count - 1, 1)
        frame[side:2 * side, left:left + side] = rng.integers(0, 256, 3)
    return frames


def write(path, frames, codec='mpeg4', rate=30, pix_fmt='yuv420p', options=None, times=None,
          turned=0, bt709=False):
    with av.open(str(path), 'w') as container:
        stream = container.add_stream(codec, rate, options or {})
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = pix_fmt
        if times:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        if turned:
            stream.set_display_rotation(turned)
        if bt709:
            stream.codec_context.colorspace = 1
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, 'rgb24').reformat(format=pix_fmt)
            frame.pts = times[i] if times else i
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope='module')
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp('clips')
    for seed, (name, (count, size, arguments)) in enumerate(CLIPS.items()):
        write(folder / name, draw(count, size, seed), **arguments)
    return [str(folder / name) for name in CLIPS]


@pytest.fixture(scope='module')
def model(clips_root, tmp_path_factory):
    """A tiny model with random weights: config, checkpoint, exported folder."""
    folder = tmp_path_factory.mktemp('model')
    options = {'data_root': str(clips_root), 'classes': CLASSES, 'split.val_groups': 1,
               'num_frames': 4, 'input_size': (48, 32), 'decode_size': 50, 'num_workers': 0,
               'precision': 'fp32', 'clip_cache': None, 'load_from': None,
               'model.backbone.base_channels': 8, 'model.cls_head.in_channels': 64}
    cfg = load_config(DEMO_CONFIG, options)
    torch.manual_seed(0)
    network = MODELS.build(cfg.model)
    # With its initial statistics, random weights would leave a single class.
    frames_NTHWC = torch.from_numpy(draw(64, (48, 32), 0)).reshape(16, 4, 32, 48, 3)
    with torch.no_grad():
        for _ in range(30):
            Whole(network).train()(frames_NTHWC)
    checkpoint = str(folder / 'random.pth')
    torch.save(dict(state_dict=network.state_dict(),
                    meta=dict(dataset_meta=dict(classes=CLASSES))), checkpoint)
    export(DEMO_CONFIG, checkpoint, 'onnx', 'fp32', folder / 'exported', options)
    return cfg, options, checkpoint, folder / 'exported'


def test_every_way_gives_the_same_scores(clips, model):
    cfg, options, checkpoint, folder = model
    assert len(clips) == 24
    recognizer = Recognizer(DEMO_CONFIG, checkpoint, device='cpu', options=options)
    exported = Recognizer.load(folder)
    stock = init_recognizer(cfg, checkpoint, device='cpu')
    preprocessing = recognizer.info.preprocessing
    ways = {
        'mmaction2': lambda path: inference_recognizer(stock, path).pred_score.numpy(),
        'path': lambda path: recognizer.predict(path).scores,
        'array': lambda path: recognizer.predict(Video(path).read_all()).scores,
        'exported': lambda path: exported.predict(path).scores,
        'service': lambda path: next(exported.predict_views([asyncio.run(decode_clip(
            path, preprocessing, Settings()))[0]])).scores}
    scores = {way: np.stack([*map(predict, clips)]) for way, predict in ways.items()}
    for way, scores_NK in scores.items():
        np.testing.assert_allclose(scores_NK, scores['mmaction2'], atol=1e-4, err_msg=way)
    # They depend on the clip, so that other pixels would be seen.
    assert np.median(np.abs(np.diff(scores['path'], axis=0)).max(axis=1)) > 1e-2


def test_frames_are_counted_and_turned(clips):
    found = {path.rsplit('/', 1)[1]: Video(path) for path in clips}
    for name, (count, (width, height), arguments) in CLIPS.items():
        size = (height, width) if arguments.get('turned') == 90 else (width, height)
        assert (found[name].total_frames, found[name].size) == (count, size), name


def test_a_decoder_with_threads_can_be_closed_early(clips, monkeypatch):
    """PyAV's log callback and its closing waited for each other."""
    monkeypatch.setenv('HRI30_DECODE_SECONDS', '10')
    clip = Video(next(path for path in clips if path.endswith('uneven.mp4')), threads=2)
    for _ in range(20):
        assert len(clip.read([25])) == 1
