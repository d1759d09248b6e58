"""The iterations of EM for IBM Model 1 as a drawing."""

import numpy as np

from trellis.components.drawing.drawing import Drawing, grid, steps
from trellis.components.drawing.em_steps import NULL, EMSteps, Iteration


def draw_em(run: EMSteps) -> Drawing:
    """Draw a run of EM: a slider chooses the iteration."""
    after = [*(iteration.translations for iteration in run.iterations[1:]), run.translations]
    sections = []
    for number, (iteration, translations) in enumerate(zip(run.iterations, after, strict=True)):
        sections.append(
            (
                f"Iteration {number + 1}: log-likelihood {iteration.log_likelihood:.4f} nats before it",
                '<div class="columns">'
                + _table("1. Translation probabilities t", run, iteration.translations)
                + _posteriors(run, iteration)
                + _table("3. Expected counts: the posteriors, added up", run, iteration.counts)
                + _table("4. New t: each count divided by its row's sum", run, translations)
                + "</div>",
            )
        )
    corpus = "; ".join(f"{' '.join(source)} / {' '.join(target)}" for source, target in run.pairs)
    return Drawing(steps(sections, "iteration"), f"EM for IBM Model 1 on: {corpus}", "steps.js")


def _table(heading: str, run: EMSteps, values: np.ndarray) -> str:
    table = grid(values, run.source_words, run.target_words)
    return f'<div class="scroll"><p class="heading">{heading}</p>{table}</div>'


def _posteriors(run: EMSteps, iteration: Iteration) -> str:
    null = [NULL] if run.source_words[-1] == NULL else []
    grids = "".join(
        f'<div class="scroll">{grid(values, [*source, *null], target)}</div>'
        for (source, target), values in zip(run.pairs, iteration.posteriors, strict=True)
    )
    heading = "2. Posteriors: each t divided by its column's sum"
    return f'<div><p class="heading">{heading}</p><div class="columns">{grids}</div></div>'
