"""Counts and latencies for Prometheus, under the names that TensorFlow Serving gives them."""

import resource
import threading
from bisect import bisect_left
from collections import Counter

from trellis.serve.server.models import Models

BUCKETS = tuple(10.0 * 1.8**power for power in range(26))  # microseconds


class _Latencies:
    """A histogram of latencies.

    Attributes:
        counts: the number of requests in each bucket; the last one is unbounded.
        total: the sum of the latencies, in microseconds.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.total = 0.0

    def add(self, microseconds: float) -> None:
        self.counts[bisect_left(BUCKETS, microseconds)] += 1
        self.total += microseconds


class Metrics:
    """The number of requests by model and status, and how long they took."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, str]] = Counter()
        self._latencies: dict[tuple[str, str], _Latencies] = {}

    def record(self, model: str, protocol: str, status: str, seconds: float) -> None:
        """Record a request.

        Args:
            model: the name of the model; `""` if there is no such model.
            protocol: `REST` or `GRPC`.
            status: the name of a gRPC status.
            seconds: how long it took.
        """
        with self._lock:
            self._requests[model, protocol, status] += 1
            self._latencies.setdefault((model, protocol), _Latencies()).add(seconds * 1e6)

    def text(self, models: Models) -> str:
        """Return all metrics in the format of Prometheus."""
        lines = ["# TYPE :tensorflow:serving:request_count counter"]
        with self._lock:
            for (model, protocol, status), count in sorted(self._requests.items()):
                labels = f'model_name="{_escape(model)}",entrypoint="{protocol}",status="{status}"'
                lines.append(f":tensorflow:serving:request_count{{{labels}}} {count}")
            lines.append("# TYPE :tensorflow:serving:request_latency histogram")
            for (model, protocol), latencies in sorted(self._latencies.items()):
                labels, cumulated = f'model_name="{_escape(model)}",entrypoint="{protocol}"', 0
                bounds = [*(f"{bound:g}" for bound in BUCKETS), "+Inf"]
                for bound, count in zip(bounds, latencies.counts, strict=True):
                    cumulated += count
                    lines.append(f':tensorflow:serving:request_latency_bucket{{{labels},le="{bound}"}} {cumulated}')
                lines.append(f":tensorflow:serving:request_latency_sum{{{labels}}} {latencies.total:.0f}")
                lines.append(f":tensorflow:serving:request_latency_count{{{labels}}} {cumulated}")
        lines.append("# TYPE trellis_waiting_rows gauge")
        for name, loaded in sorted(models.served.items()):
            for number, version in sorted(loaded.items()):
                rows = sum(batches.rows for batches in version.batches.values())
                lines.append(f'trellis_waiting_rows{{model_name="{_escape(name)}",version="{number}"}} {rows}')
        lines.append("# TYPE process_resident_memory_bytes gauge")
        lines.append(f"process_resident_memory_bytes {resident_bytes()}")
        return "\n".join(lines) + "\n"


def _escape(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def resident_bytes() -> int:
    """Return the memory that this process currently uses."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
