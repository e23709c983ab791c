"""Stands for a decoder that a machine without memory ends: once a clip, not twice."""

from pathlib import Path

import bad_decoder

from hri30_ext.video.inspection import inspect_clip


def inspect(filename):
    """Does what a clip's end says, the first time; later it reads the clip."""
    seen = Path(filename).parents[2] / f'{Path(filename).name}.seen'
    if seen.exists():
        return inspect_clip(filename)
    seen.touch()
    return bad_decoder.inspect(filename)
