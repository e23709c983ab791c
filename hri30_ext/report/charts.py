"""Charts as SVG images that lie in the page itself."""

import base64
import io
import math
from collections.abc import Mapping, Sequence

from matplotlib import cycler, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Colours that can be read on a light page and on a dark one.
_TEXT, _BLUE, _ORANGE = '#7d8894', '#2b8ccb', '#e06c1f'
_STYLE = {
    'svg.hashsalt': 'report', 'font.size': 8, 'figure.figsize': (4, 2.7),
    'figure.constrained_layout.use': True, 'axes.spines.top': False,
    'axes.spines.right': False, 'axes.grid': True, 'grid.alpha': .25,
    'axes.prop_cycle': cycler(linestyle=['-', '--', ':']) * cycler(color=[_BLUE, _ORANGE]),
    'legend.frameon': False, 'figure.facecolor': 'none', 'axes.facecolor': 'none',
    **dict.fromkeys(('text.color', 'axes.labelcolor', 'xtick.color', 'ytick.color',
                     'axes.edgecolor', 'grid.color', 'legend.labelcolor'), _TEXT)}


@rc_context(_STYLE)
def line_chart(name: str, series: Mapping[str, Sequence[tuple[float, float]]],
               limits: tuple[float, float] | None = None) -> dict:
    """Draws lines, points (x, y) by their names, over epochs; the y axis begins at 0 unless
    it has limits.

    Returns:
        dict: ``name``, ``text`` for readers who do not see the image, and ``uri``.
    """
    axes = Figure().subplots()
    for label, points in series.items():
        axes.plot(*zip(*points, strict=True), label=label)
    axes.set(xlabel='Epoch', ylim=limits or (0, None))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.legend()
    ends = '; '.join(f'{label} ends at {points[-1][1]:.4g}'
                     for label, points in series.items())
    return dict(name=name, text=f'{name}: {ends}', uri=_to_uri(axes))


@rc_context(_STYLE)
def reliability_chart(bins: Sequence[dict]) -> str:
    """Draws the share of clips that are right over the confidence; returns a data URI.

    The bins are those of :func:`~hri30_ext.evaluation.calibration.reliability_bins` that
    have clips.
    """
    axes = Figure().subplots()
    most = max(one['clips'] for one in bins)
    for one in bins:
        # Pale where a bar stands for few clips.
        axes.bar(one['low'], max(one['accuracy'], .005), one['high'] - one['low'],
                 color=_BLUE, align='edge', linewidth=0,
                 alpha=.2 + .7 * math.sqrt(one['clips'] / most))
    axes.plot([0, 1], [0, 1], color=_TEXT, linestyle='--', linewidth=1)
    axes.plot([one['confidence'] for one in bins], [one['accuracy'] for one in bins], 'o',
              color=_ORANGE, markersize=4)
    axes.set(xlabel='Confidence', xlim=(0, 1), ylim=(0, 1.02))
    return _to_uri(axes)


def _to_uri(axes: Axes) -> str:
    buffer = io.BytesIO()
    axes.figure.savefig(buffer, format='svg', metadata={'Date': None})
    return 'data:image/svg+xml;base64,' + base64.b64encode(buffer.getvalue()).decode()
