"""One way for pixels: from a file to its scores, every way sees the same frames."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import av
import numpy as np
import pytest
import torch
from clip_files import CLIPS, draw, write
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
from hri30_ext.video.resize import to_rgb


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
    recognizer = Recognizer(DEMO_CONFIG, checkpoint, device='cpu', options=options)
    exported = Recognizer.load(folder)
    stock = init_recognizer(cfg, checkpoint, device='cpu')
    preprocessing = recognizer.info.preprocessing

    def run(coroutine):  # in a thread: this one may have the event loop of a browser's test
        with ThreadPoolExecutor() as pool:
            return pool.submit(asyncio.run, coroutine).result()

    ways = {
        'mmaction2': lambda path: inference_recognizer(stock, path).pred_score.numpy(),
        'path': lambda path: recognizer.predict(path).scores,
        'array': lambda path: recognizer.predict(Video(path).read_all()).scores,
        'exported': lambda path: exported.predict(path).scores,
        'service': lambda path: next(exported.predict_views([run(decode_clip(
            path, preprocessing, Settings()))[0]])).scores}
    scores = {way: np.stack([*map(predict, clips)]) for way, predict in ways.items()}
    for way, scores_NK in scores.items():
        # Frames of an array are RGB before they are resized.
        np.testing.assert_allclose(scores_NK, scores['mmaction2'], err_msg=way,
                                   atol=.05 if way == 'array' else 1e-4)
    # They depend on the clip, so that other pixels would be seen.
    assert np.median(np.abs(np.diff(scores['path'], axis=0)).max(axis=1)) > 1e-2


def test_frames_are_counted_and_turned_and_otherwise_as_they_are_stored(clips):
    for path, (name, (count, size, arguments)) in zip(clips, CLIPS.items(), strict=True):
        turned, clip = arguments.get('turned'), Video(path)
        assert clip.total_frames == count, name
        assert clip.size == (size[::-1] if turned == 90 else size), name
        if 'times' not in arguments:
            assert clip.fps == pytest.approx(float(arguments.get('rate', 30))), name
        if not turned and 'interlaced' not in name:
            with av.open(path) as container:
                stored = [to_rgb(frame, *size) for frame in container.decode()]
            np.testing.assert_array_equal(clip.read_all(), stored, err_msg=name)
        small = Video(path, 15)
        assert min(small.size) == 15
        assert small.read([0]).shape == (1, *small.size[::-1], 3)


def test_a_decoder_with_threads_can_be_closed_early(clips, monkeypatch):
    """PyAV's log callback and its closing waited for each other."""
    monkeypatch.setenv('HRI30_DECODE_SECONDS', '10')
    clip = Video(next(path for path in clips if path.endswith('uneven.mp4')), threads=2)
    for _ in range(20):
        assert len(clip.read([25])) == 1
