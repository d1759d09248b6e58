"""Counts and times for Prometheus, by the names that TensorFlow Serving gives them."""

import resource
import threading
from bisect import bisect_left

BUCKETS = tuple(10.0 * 1.8**power for power in range(26))  # microseconds


class Metrics:
    """Requests by model and status, and how long they took."""

    def __init__(self):
        self._lock = threading.Lock()
        self._requests, self._latencies = {}, {}

    def record(self, model, entry, status, seconds):
        """One request; `entry` is `REST` or `GRPC`."""
        place = bisect_left(BUCKETS, seconds * 1e6)
        with self._lock:
            self._requests[model, entry, status] = self._requests.get((model, entry, status), 0) + 1
            counts = self._latencies.setdefault((model, entry), [[0] * (len(BUCKETS) + 1), 0.0])
            counts[0][place] += 1
            counts[1] += seconds * 1e6

    def text(self, models):
        """All of it in Prometheus's format."""
        lines = ["# TYPE :tensorflow:serving:request_count counter"]
        with self._lock:
            for (model, entry, status), count in sorted(self._requests.items()):
                names = f'model_name="{model}",entrypoint="{entry}",status="{status}"'
                lines.append(f":tensorflow:serving:request_count{{{names}}} {count}")
            lines.append("# TYPE :tensorflow:serving:request_latency histogram")
            for (model, entry), (counts, total) in sorted(self._latencies.items()):
                names, below = f'model_name="{model}",entrypoint="{entry}"', 0
                for bound, count in zip((*BUCKETS, "+Inf"), counts, strict=True):
                    below += count
                    le = bound if isinstance(bound, str) else f"{bound:g}"
                    lines.append(f':tensorflow:serving:request_latency_bucket{{{names},le="{le}"}} {below}')
                lines.append(f":tensorflow:serving:request_latency_sum{{{names}}} {total:.0f}")
                lines.append(f":tensorflow:serving:request_latency_count{{{names}}} {below}")
        lines.append("# TYPE trellis_waiting_rows gauge")
        for name, loaded in sorted(models.served.items()):
            for number, version in sorted(loaded.items()):
                rows = sum(batches.rows for batches in (version.batches or {}).values())
                lines.append(f'trellis_waiting_rows{{model_name="{name}",version="{number}"}} {rows}')
        lines.append("# TYPE process_resident_memory_bytes gauge")
        lines.append(f"process_resident_memory_bytes {resident_bytes()}")
        return "\n".join(lines) + "\n"


def resident_bytes():
    """Memory that this process holds now."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
