"""The chart of calibration, as an image that lies in the page itself."""

import base64
import io
import math
from collections.abc import Sequence

from matplotlib.figure import Figure


def reliability_chart(bins: Sequence[dict]) -> str:
    """Draws the share of clips that are right over the confidence; returns a data URI.

    The bins are those of :func:`~hri30_ext.evaluation.calibration.reliability_bins` that
    have clips.
    """
    figure, buffer = Figure(figsize=(4, 2.7), layout='constrained'), io.BytesIO()
    axes = figure.subplots()
    most = max(one['clips'] for one in bins)
    for one in bins:
        # Pale where a bar stands for few clips.
        axes.bar(one['low'], max(one['accuracy'], .005), one['high'] - one['low'],
                 color='C0', align='edge', alpha=.2 + .7 * math.sqrt(one['clips'] / most))
    axes.plot([0, 1], [0, 1], color='grey', linestyle='--', linewidth=1)
    axes.plot([one['confidence'] for one in bins], [one['accuracy'] for one in bins], 'o',
              color='C1', markersize=4)
    axes.set(xlabel='Confidence', xlim=(0, 1), ylim=(0, 1.02))
    figure.savefig(buffer, format='png', dpi=200)
    return 'data:image/png;base64,' + base64.b64encode(buffer.getvalue()).decode()
