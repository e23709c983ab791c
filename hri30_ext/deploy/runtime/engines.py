"""Engines of TensorRT, which ONNX Runtime builds on the machine that they are for."""

import time
from pathlib import Path

import numpy as np

from .exported import load
from .recognizer import BATCH_SIZE


def build_engines(folder: str | Path) -> dict[str, float]:
    """Runs all graphs of an exported folder once, which builds and stores their engines.

    They are for 1 to :data:`~.recognizer.BATCH_SIZE` clips or frames at once. Returns the
    ``seconds`` that it took, and the ``max_difference`` of a probability of clips of noise
    from those of the CPU. Errors are those of :func:`~.exported.load`.
    """
    start = time.perf_counter()
    info, backend = load(folder, provider='tensorrt')
    width, height = info.preprocessing.size
    clips_NTHWC = np.random.default_rng(0).integers(
        0, 256, (BATCH_SIZE, info.preprocessing.num_frames, height, width, 3), np.uint8)
    found = []
    for count in (1, BATCH_SIZE):
        found.append(backend(clips_NTHWC[:count]))
        if backend.splittable:
            backend.frame_features(clips_NTHWC[:count, 0])
            found.append(backend.clip_scores(np.stack(
                [backend.frame_features(clip) for clip in clips_NTHWC[:count]])))
    seconds = time.perf_counter() - start
    expected_NK = load(folder)[1](clips_NTHWC)
    return dict(seconds=seconds, max_difference=max(float(np.abs(
        scores_NK - expected_NK[:len(scores_NK)]).max()) for scores_NK in found))
