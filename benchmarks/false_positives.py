"""How often `trellis compare` calls a configuration better than itself: runs of one configuration that differ in seed.

trellis train -m seed='range(1,31)' tracking=off export=off hydra.sweep.dir=SWEEP
python -m benchmarks.false_positives SWEEP [--pairs 400] [--seeds 1,3,5]

Each pair is drawn without a seed in common, from the same test set, and tested at a level of 0.05. A test that holds
its level calls about one pair in twenty different. It takes a few minutes of one core.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trellis.components.metrics import segments
from trellis.components.metrics.segments import ScoredSegments
from trellis.components.metrics.significance import paired_bootstrap, paired_randomization, seed_test
from trellis.pipelines import comparison, seeds

LEVEL = 0.05
SAMPLES = 500  # resampled corpora, and random exchanges


def p_values(first: Sequence[ScoredSegments], second: Sequence[ScoredSegments], seed: int) -> list[float]:
    """Return the p-values of the bootstrap, of randomization and, for several seeds each, with seeds."""
    score = segments.score_of(first[0].score)
    averaged = [np.mean([run.statistics for run in runs], axis=0) for runs in (first, second)]
    bootstrap = paired_bootstrap(score, *averaged, samples=SAMPLES, seed=seed)
    values = [bootstrap.p_value, paired_randomization(score, *averaged, trials=SAMPLES, seed=seed)]
    if len(first) > 1:
        scores = ([score(run.statistics.sum(axis=0)) for run in runs] for runs in (first, second))
        values.append(seed_test(bootstrap, *scores).p_value)
    return values


def main() -> None:
    """Print the share of pairs that each test calls different."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="folder of runs that differ in their seed alone")
    parser.add_argument("--pairs", type=int, default=400, help="pairs to draw for each number of seeds")
    parser.add_argument("--seeds", default="1,3,5", help="seeds of each half of a pair")
    options = parser.parse_args()
    (group,) = seeds.collect([options.sweep])
    runs = [segments.load(folder / comparison.FILE) for folder in group.folders]
    score = segments.score_of(runs[0].score)
    scores = [score(run.statistics.sum(axis=0)) for run in runs]
    print(f"{len(runs)} runs: {runs[0].name} {np.mean(scores):.4f} ± {np.std(scores, ddof=1):.4f}")
    rng = np.random.default_rng(0)
    for count in map(int, options.seeds.split(",")):
        drawn = (rng.permutation(len(runs))[: 2 * count] for _ in range(options.pairs))
        halves = (([runs[i] for i in rows[:count]], [runs[i] for i in rows[count:]]) for rows in drawn)
        values = np.array([p_values(*pair, seed) for seed, pair in enumerate(halves)])
        shares = dict(zip(("bootstrap", "randomization", "seeds"), (values < LEVEL).mean(axis=0), strict=False))
        print(
            f"{count} against {count}:", "  ".join(f"{name} {share:.3f}" for name, share in shares.items()), flush=True
        )


if __name__ == "__main__":
    main()
