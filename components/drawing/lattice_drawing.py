"""The lattice of a sentence as a drawing: scores, messages, posteriors and the best path."""

import html
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from trellis.components.drawing.drawing import Drawing
from trellis.components.drawing.lattice_messages import IMPOSSIBLE, LatticeMessages

RADIUS, ROW, TOP = 13.0, 48.0, 30.0
VISIBLE_EDGE = 0.005  # edges with a smaller posterior are not drawn


def draw_lattice(messages: LatticeMessages, tokens: Sequence[str], tags: Sequence[str], threshold: float) -> Drawing:
    """Draw a lattice.

    Args:
        messages: its scores, and what the dynamic programs make of them.
        tokens: the tokens of the sentence.
        tags: the name of each tag.
        threshold: leave out tags whose posterior stays below it at all tokens, unless they are on the best path.
    """
    shown = [tag for tag in range(len(tags)) if messages.posteriors[:, tag].max() >= threshold or tag in messages.path]
    hidden = len(tags) - len(shown)
    probability = math.exp(min(0.0, messages.path_score - messages.log_partition))
    facts = (
        f"<p>log Z = {round(messages.log_partition, 3) + 0.0:.3f} · best path: score {messages.path_score:.3f}, "
        f"probability {probability:.3f} · entropy of the paths: {max(0.0, messages.entropy):.3f} nats"
        + (f" · {hidden} improbable {'tags are' if hidden > 1 else 'tag is'} not drawn" if hidden else "")
        + "</p>"
    )
    picture = _svg(messages, tokens, tags, shown)
    content = f'<div class="controls"></div><div class="scroll">{picture}</div>{facts}<div class="detail"></div>'
    return Drawing(content, f"Lattice of: {' '.join(tokens)}", "lattice.js", _numbers(messages, tokens, tags, shown))


def _numbers(messages: LatticeMessages, tokens: Sequence[str], tags: Sequence[str], shown: Sequence[int]) -> Any:
    """Return what the script explains; a sum of the terms it prints gives what the lattice functions computed."""
    constant = len(messages.pairwise) > 0 and bool((messages.pairwise == messages.pairwise[0]).all())
    return {
        "tokens": list(tokens),
        "tags": list(tags),
        "shown": list(shown),
        "unary": _plain(messages.unary),
        "pairwise": _plain(messages.pairwise[:1] if constant else messages.pairwise),
        "forward": _plain(messages.forward),
        "backward": _plain(messages.backward),
        "posteriors": _plain(messages.posteriors),
        "best": _plain(messages.best),
        "previous": messages.previous.tolist(),
        "path": messages.path.tolist(),
        "logPartition": round(messages.log_partition, 6),
        "pathScore": round(messages.path_score, 6),
    }


def _plain(values: np.ndarray) -> Any:
    """Return nested lists of rounded numbers; None for impossible scores."""
    rounded = np.round(values, 6).astype(object)
    rounded[values < IMPOSSIBLE] = None
    return rounded.tolist()


def _svg(messages: LatticeMessages, tokens: Sequence[str], tags: Sequence[str], shown: Sequence[int]) -> str:
    """Return the picture of the posteriors and the best path, from which the script starts."""
    left = 20.0 + 7.5 * max(len(tags[tag]) for tag in shown)
    widths = [max(72.0, 9.0 * len(token) + 16.0) for token in tokens]
    ends = np.cumsum(widths)
    centres = left + ends - np.array(widths) / 2
    rows = {tag: TOP + ROW * (index + 0.5) for index, tag in enumerate(shown)}
    width, height = left + float(ends[-1]) + 8.0, TOP + ROW * len(shown) + 4.0
    parts = [
        f'<svg width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}" '
        'xmlns="http://www.w3.org/2000/svg"><g class="edges">'
    ]
    for step, pairs in enumerate(messages.pair_posteriors):
        for before in shown:
            for after in shown:
                on_path = before == messages.path[step] and after == messages.path[step + 1]
                if pairs[before, after] >= VISIBLE_EDGE or on_path:
                    kind = ' class="path"' if on_path else ""
                    parts.append(
                        f'<line data-from="{step},{before}" data-to="{step + 1},{after}"{kind} '
                        f'x1="{centres[step]:.1f}" y1="{rows[before]:.1f}" '
                        f'x2="{centres[step + 1]:.1f}" y2="{rows[after]:.1f}" '
                        f'style="stroke-width:{0.5 + 4.5 * pairs[before, after]:.2f}"/>'
                    )
    parts.append('</g><g class="terms"></g>')
    for tag in shown:
        parts.append(
            f'<text x="{left - 12:.1f}" y="{rows[tag] + 4:.1f}" text-anchor="end">{html.escape(tags[tag])}</text>'
        )
    for step, token in enumerate(tokens):
        parts.append(
            f'<text class="token" x="{centres[step]:.1f}" y="18" text-anchor="middle">{html.escape(token)}</text>'
        )
        for tag in shown:
            value = messages.posteriors[step, tag]
            x, y = centres[step], rows[tag]
            small = ' class="small"' if value < 0.0005 else ""
            parts.append(
                f'<g class="node" data-node="{step},{tag}" tabindex="0" role="button" '
                f'aria-label="{html.escape(token)}, {html.escape(tags[tag])}">'
                f'<circle class="outline" cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS}"/>'
                f'<circle class="value" cx="{x:.1f}" cy="{y:.1f}" r="{RADIUS * math.sqrt(value):.2f}"/>'
                f'<text{small} x="{x:.1f}" y="{y + RADIUS + 10:.1f}" text-anchor="middle">{value:.3f}</text></g>'
            )
    return "".join([*parts, "</svg>"])
