"""A tagger under load: the local server beside calling the SavedModel in process, and beside `mlflow models serve`.

python -m benchmarks.serving EXPORTS [--model bilstm_crf] [--requests 50000] [--mlflow MODEL]
python -m benchmarks.serving EXPORTS [--model bilstm_crf] --hostile SECONDS

EXPORTS is a folder of exports; the load comes from another process, over loopback. First one client, one sentence a
request; then 64 clients at once until --requests are answered. MODEL is a path or address of the same model as MLflow
logged it (an artifact folder `model`), served by `mlflow models serve` with as many clients.

With --hostile, one healthy client asks about one sentence at a time, alone and beside `benchmarks.hostile_clients`.
"""

import argparse
import contextlib
import http.client
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SENTENCE = "Mary Smith flew from Oslo to Lima on Monday with two friends ."
CLIENTS = 64


def load(host, port, path, body, requests, clients):
    """Sends requests from `clients` threads; prints seconds of each and what failed, as JSON."""
    left, lock, times, failed = [requests], threading.Lock(), [], []

    def client():
        connection = http.client.HTTPConnection(host, port, timeout=60)
        own = []
        while True:
            with lock:
                if not left[0]:
                    break
                left[0] -= 1
            began = time.perf_counter()
            try:
                connection.request("POST", path, body, {"Content-Type": "application/json"})
                response = connection.getresponse()
                answer = response.read()
                if response.status != 200:
                    failed.append(f"{response.status} {answer[:200]!r}")
            except OSError as error:
                failed.append(str(error))
                connection.close()
            own.append(time.perf_counter() - began)
        with lock:
            times.extend(own)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    times.sort()
    print(json.dumps({
        "rate": requests / seconds, "p50": times[len(times) // 2], "p99": times[int(len(times) * 0.99)],
        "failed": len(failed), "first": failed[:1],
    }))  # fmt: skip


def under_load(address, path, body, requests, clients):
    """What `load` finds, run in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.serving",
        "--load",
        json.dumps([*address, path, body, requests, clients]),
    ]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)


def in_process(export):
    """Median seconds of a call, and seconds of loading."""
    from trellis.components.quiet import captured_stderr

    with captured_stderr():
        import tensorflow as tf

        began = time.perf_counter()
        model = tf.saved_model.load(str(export))
        loading = time.perf_counter() - began
        tag, text = model.signatures["from_text"], tf.constant([SENTENCE])
        times = []
        for _ in range(500):
            began = time.perf_counter()
            tag(text=text)["tags"].numpy()
            times.append(time.perf_counter() - began)
    return statistics.median(times[50:]), loading


def memory(process):
    """MiB that a process and its children hold; pages that they share count once."""
    folder = Path(f"/proc/{process.pid}")
    children = " ".join(file.read_text() for file in folder.glob("task/*/children")).split()
    held = 0
    for pid in (process.pid, *children):
        with contextlib.suppress(OSError):  # a child has ended
            held += int(re.search(r"Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text())[1])
    return held / 1024


def start(exports):
    """Return a server's process, its address, and its gRPC port."""
    command = [sys.executable, "-m", "trellis", "serve", str(exports), "--rest-port", "0", "--grpc-port", "0"]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    for line in server.stderr:
        if found := re.search(r"http://([\d.]+):(\d+), gRPC on (\d+)", line):
            break
    threading.Thread(target=server.stderr.read, daemon=True).start()
    return server, (found[1], int(found[2])), int(found[3])


def healthy(address, path, seconds, server):
    """Seconds of each request of one client that asks twenty times a second, its failures, and the peak memory."""
    body, times, failed, peak = json.dumps({"signature_name": "from_text", "instances": [SENTENCE]}), [], [], 0
    connection, end = http.client.HTTPConnection(*address, timeout=60), time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        try:
            connection.request("POST", path, body)
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                failed.append(f"{response.status} {answer[:200]!r}")
        except (OSError, http.client.HTTPException) as error:
            failed.append(f"{type(error).__name__}: {error}")
            connection.close()
        times.append(time.perf_counter() - began)
        if len(times) % 10 == 1:
            peak = max(peak, memory(server))
        time.sleep(0.05)
    times.sort()
    return times, failed, peak


def beside_hostile_clients(options):
    """Print how a healthy client fares alone and beside hostile ones."""
    server, address, grpc_port = start(options.exports)
    path = f"/v1/models/{options.model}:predict"
    command = [sys.executable, "-m", "benchmarks.hostile_clients", address[0], str(address[1]), str(grpc_port)]
    try:
        rows = [("alone", *healthy(address, path, min(options.hostile, 10), server))]
        with subprocess.Popen(
            [*command, options.model, str(options.hostile)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as attack:
            rows.append(("beside them", *healthy(address, path, options.hostile, server)))
            outcomes = json.loads(attack.stdout.read())
        rows.append(("afterwards", *healthy(address, path, min(options.hostile, 10), server)))
    finally:
        server.terminate()
        stopped = server.wait()
    print(f"{'':<12}{'requests':>9}{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}{'failed':>8}{'peak MiB':>10}")
    for name, times, failed, peak in rows:
        shown = [1e3 * times[int(len(times) * share)] for share in (0.5, 0.99)] + [1e3 * times[-1]]
        print(f"{name:<12}{len(times):>9}" + "".join(f"{ms:>9.1f}" for ms in shown) + f"{len(failed):>8}{peak:>10.0f}")
        if failed:
            print(f"  {failed[0]}")
    print("\n".join(f"{count:>7} × {outcome}" for outcome, count in sorted(outcomes.items())))
    print(f"the server stopped with status {stopped}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exports", nargs="?", type=Path)
    parser.add_argument("--model", default="bilstm_crf")
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--mlflow")
    parser.add_argument("--hostile", type=float, metavar="SECONDS")
    parser.add_argument("--load", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.load:
        load(*json.loads(options.load))
        return
    from trellis.components.saved_model.versions import latest

    version = latest(options.exports / options.model)
    if options.hostile:
        beside_hostile_clients(options)
        return
    size = sum(file.stat().st_size for file in version.rglob("*") if file.is_file()) / 2**20
    alone, loading = in_process(version)
    print(f"{version}: {size:.1f} MiB, loaded in {loading:.2f} s; a call in process {1e3 * alone:.2f} ms (median)")

    server, address, _ = start(options.exports)
    path = f"/v1/models/{options.model}:predict"
    body = json.dumps({"signature_name": "from_text", "instances": [SENTENCE]})
    try:
        began = time.perf_counter()
        first = http.client.HTTPConnection(*address)
        first.request("POST", path, body)
        first.getresponse().read()
        first = time.perf_counter() - began
        held = [memory(server)]
        one = under_load(address, path, body, 2000, 1)
        half = under_load(address, path, body, options.requests // 2, CLIENTS)
        held.append(memory(server))
        many = under_load(address, path, body, options.requests - options.requests // 2, CLIENTS)
        held.append(memory(server))
    finally:
        server.terminate()
        server.wait()
    print(f"first request {1e3 * first:.2f} ms")
    print(f"{'':<12}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}{'failed':>8}")
    for name, each in (("1 client", one), (f"{CLIENTS} clients", half), (f"{CLIENTS} clients", many)):
        print(f"{name:<12}{each['rate']:>12,.0f}{1e3 * each['p50']:>9.2f}{1e3 * each['p99']:>9.2f}{each['failed']:>8}")
    print(f"p50 {one['p50'] / alone:.2f} × and p99 {one['p99'] / alone:.2f} × a call in process")
    print(f"{CLIENTS} clients get {many['rate'] / one['rate']:.2f} × the rate of one")
    print(f"memory {' → '.join(f'{each:.0f}' for each in held)} MiB at start, middle and end")
    if options.mlflow:
        _mlflow(options.mlflow, many["rate"])


def _mlflow(model, rate):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", model, "-p", str(port)]
    command += ["--env-manager", "local"]
    # It looks for uvicorn on the path.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    server = subprocess.Popen(
        command, env={**os.environ, "PATH": path}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    body = json.dumps({"dataframe_split": {"columns": ["text"], "data": [[SENTENCE]]}})
    try:
        for _ in range(120):
            time.sleep(1)
            try:
                with socket.create_connection(("127.0.0.1", port), 1):
                    break
            except OSError:
                continue
        time.sleep(10)
        under_load(("127.0.0.1", port), "/invocations", body, 50, 1)
        theirs = under_load(("127.0.0.1", port), "/invocations", body, 1500, CLIENTS)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
    shown = f"{theirs['rate']:,.0f} requests/s, {theirs['failed']} failed"
    print(f"mlflow models serve: {shown}; ours {rate / theirs['rate']:.1f} ×")


if __name__ == "__main__":
    main()
