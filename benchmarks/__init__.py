"""Ours beside the peers, in one run: `python -m benchmarks.NAME` in a clone."""

from train import use_clone

use_clone()
