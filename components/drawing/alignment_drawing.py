"""The alignment of a sentence pair as a drawing."""

from collections.abc import Collection, Sequence

import numpy as np

from trellis.components.drawing.drawing import Drawing, grid
from trellis.components.types import Link


def draw_alignment(
    source: Sequence[str], target: Sequence[str], forward: np.ndarray, reverse: np.ndarray, links: Collection[Link]
) -> Drawing:
    """Draw the posteriors of links; links that the model chose have a frame.

    Args:
        source, target: the tokens of both sides.
        forward, reverse: the posterior of each link where source words generate target words, and the other way round,
            `(source, target)`.
        links: `(source position, target position)`.
    """
    marked = np.zeros(forward.shape, bool)
    for link in links:
        marked[link] = True
    views = {
        "Both directions (mean)": (forward + reverse) / 2,
        "Source generates target": forward,
        "Target generates source": reverse,
    }
    sections = (
        f'<section data-view="{name}"><p class="heading">{name}</p>'
        f'<div class="scroll">{grid(values, source, target, "source ↓ target →", marked, digits=2)}</div></section>'
        for name, values in views.items()
    )
    content = f'<div class="controls"></div>{"".join(sections)}<p>Framed: the links of the alignment.</p>'
    return Drawing(content, f"Alignment of: {' '.join(source)} ||| {' '.join(target)}", "views.js")
