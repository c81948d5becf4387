"""Measures `mmreg serve` beside batched `Run.predict`: rows a second, latency and memory.

    python tests/benchmarks/serving.py [--requests 2000] [--soak 100000] [--size 64]

Clients are coroutines of this process on plain sockets. Rates by CPU time count the service's process alone, so that
neither the clients nor what else the machine does is in them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
SERVE = "from mmreg_serve.command import app; app()"
TICK = os.sysconf("SC_CLK_TCK")


def make_run(folder: Path, size: int) -> list[dict[str, Any]]:
    """Train a small run in a folder and give the rows' values, bytes of files among them."""
    import small

    import mmreg

    small.make_folder(folder)
    recipe = (folder / "recipe.yaml").read_text().replace("size: 16", f"size: {size}")
    recipe = recipe if size == 16 else recipe.replace("channels: [8], features: 8", "channels: [32, 64], features: 64")
    (folder / "recipe.yaml").write_text(recipe)
    mmreg.train(folder / "recipe.yaml", folder / "run", device="cpu")
    files = ("image", "audio")
    return [
        {"title": row["title"], **{name: (folder / row[name]).read_bytes() for name in files}}
        for row in small.read_table(folder / "table.csv")
    ]


@contextmanager
def service(run: Path, batch_size: int) -> Iterator[tuple[int, int]]:
    """A service's port and process."""
    command = [sys.executable, "-c", SERVE, str(run), "--port", "0", "--device", "cpu", "--batch-size", str(batch_size)]
    one_thread = {**os.environ, "OMP_NUM_THREADS": "1"}  # as `predict_rate` has
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=one_thread) as process:
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("serving "))
        try:
            yield int(line.split()[3].rsplit(":", 1)[1]), process.pid
        finally:
            process.terminate()


def cpu_seconds(process: int) -> float:
    """The time that all threads of a process have computed."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def memory(process: int) -> float:
    """The megabytes of a process that are in memory."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def load(port: int, bodies: Sequence[bytes], clients: int, requests: int) -> list[float]:
    """The seconds that each of some requests took, asked by so many clients at once."""
    left = iter(range(requests))
    seconds: list[float] = []

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in left:
            began = time.perf_counter()
            writer.write(bodies[number % len(bodies)])
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200"), head
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            seconds.append(time.perf_counter() - began)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds


def request(rows: Sequence[dict[str, Any]]) -> bytes:
    """Rows as the bytes of a request."""
    from served import as_json

    plain = [as_json(row) for row in rows]
    body = json.dumps({"rows": plain}).encode()
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return head.encode() + b"\r\n\r\n" + body


def measure(port: int, process: int, bodies: Sequence[bytes], clients: int, requests: int) -> dict[str, float]:
    """What a load came to: requests by second and by CPU second, and the latency's median and 99th percentile."""
    cpu, began = cpu_seconds(process), time.perf_counter()
    seconds = asyncio.run(load(port, bodies, clients, requests))
    wall, cpu = time.perf_counter() - began, cpu_seconds(process) - cpu
    low, high = (1000 * np.percentile(seconds, [50, 99])).tolist()
    return {"rate": requests / wall, "cpu_rate": requests / cpu, "p50_ms": low, "p99_ms": high, "mb": memory(process)}


def predict_rate(run: Any, values: Sequence[dict[str, Any]], rows: int) -> float:
    """Rows by CPU second of `Run.predict` in batches of 64."""
    batch = [values[number % len(values)] for number in range(64)]
    began = time.process_time()
    for _ in range(max(1, rows // 64)):
        run.predict(batch, batch_size=64)
    return max(1, rows // 64) * 64 / (time.process_time() - began)


def main() -> None:
    """Measure, in interleaved rounds, and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--soak", type=int, default=0)
    parser.add_argument("--size", type=int, default=16)
    given = parser.parse_args()
    import torch

    import mmreg

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        values = make_run(Path(name), given.size)
        loaded = mmreg.load(Path(name) / "run", "cpu")
        one = [request([row]) for row in values]
        eight = [request(values[n : n + 8]) for n in range(0, 48, 8)]
        with service(Path(name) / "run", 64) as (port, process), service(Path(name) / "run", 1) as (slow, alone):
            found: dict[str, list[dict[str, float]]] = {}
            rates = []
            for round_number in range(given.rounds + 1):  # the first one warms up
                requests = given.requests if round_number else given.requests // 10
                of_round = {
                    "batched, 32 clients": measure(port, process, one, 32, requests),
                    "unbatched, 32 clients": measure(slow, alone, one, 32, requests),
                    "batched, 64 clients": measure(port, process, one, 64, requests),
                    "batched, 64 clients, 8 rows each": measure(port, process, eight, 64, requests // 8),
                }
                rate = predict_rate(loaded, values, requests)
                if round_number:
                    rates.append(rate)
                    for what, figures in of_round.items():
                        found.setdefault(what, []).append(figures)
            for what, rounds in found.items():
                print(what, {key: round(statistics.median(each[key] for each in rounds), 1) for key in rounds[0]})
            print("Run.predict, rows by CPU second", round(statistics.median(rates), 1))
            both = zip(found["batched, 32 clients"], found["unbatched, 32 clients"], strict=True)
            print("batched / unbatched, 32 clients:", statistics.median(a["rate"] / b["rate"] for a, b in both))
            for what, rows in (("batched, 64 clients", 1), ("batched, 64 clients, 8 rows each", 8)):
                parts = [rows * a["cpu_rate"] / b for a, b in zip(found[what], rates, strict=True)]
                print(f"{what} / Run.predict, by CPU time:", statistics.median(parts))
            for part in range(10 if given.soak else 0):
                print(
                    part,
                    {key: round(each, 1) for key, each in measure(port, process, one, 64, given.soak // 10).items()},
                )


if __name__ == "__main__":
    main()
