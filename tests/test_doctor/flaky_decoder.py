"""A decoder that a machine without memory kills once for each clip, not twice."""

from pathlib import Path

import bad_decoder

from hri30_ext.video.inspection import inspect_clip


def inspect(filename):
    """Fails as the end of the clip demands, the first time; later it reads the clip."""
    seen = Path(filename).parents[2] / f'{Path(filename).name}.seen'
    if seen.exists():
        return inspect_clip(filename)
    seen.touch()
    return bad_decoder.inspect(filename)
