"""Load `twofold serve` over HTTP on this machine, and compare it with a bare loop.

    python benchmarks/serve.py throughput latency saturation --record serve
    python benchmarks/serve.py soak --seconds 600 --record serve-soak
    python benchmarks/serve.py fuzz --uploads 100000 --record serve-fuzz

The server is the command `twofold serve` in a process of its own, with a ResNet-9 of random weights. The load comes from
wrk, on the same cores. The bare loop decodes, translates and encodes in this process with the server's own functions, one
after the other, in the same batches.

throughput  64 clients against the bare loop; the two alternate. The ratio of the medians is printed.
latency     p50 and p99 with few clients, and with clients that come at random times at half of the throughput.
saturation  four times as many clients as the queue holds: only 200 and 503 are allowed.
soak        clients for a long time: resident memory of the server every few seconds.
fuzz        damaged uploads, each of which must get an answer that is not a server error other than 503.
"""

import argparse
import contextlib
import http.client
import io
import json
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from damage import damaged
from PIL import Image
from record import measurement

from twofold.exchange.load import load
from twofold.hardware import keep_freed_memory
from twofold.networks.layers import initialise
from twofold.networks.registry import describe
from twofold.networks.resnet import ResnetGenerator
from twofold.serving import uploads
from twofold.translation.header import Header
from twofold.translation.model_file import save
from twofold.translation.translator import Translator

LUA = """
local file = io.open("{image}", "rb")
wrk.method, wrk.body = "POST", file:read("*a")
file:close()
local threads, statuses = {{}}, {{}}
function setup(thread) table.insert(threads, thread) end
function init() counts = "" ; seen = {{}} ; math.randomseed({seed}) end
function response(status)
  seen[status] = (seen[status] or 0) + 1
  counts = ""
  for code, count in pairs(seen) do counts = counts .. code .. " " .. count .. ";" end
end
if {pause} > 0 then
  wrk.headers["Connection"] = "close"  -- the server closes idle connections, which wrk would count as errors
  function delay()  -- no longer than the server waits for the request of a connection
    return math.floor(math.min(-math.log(1 - math.random()) * {pause}, 30000))
  end
end
function done(summary, latency)
  for _, thread in ipairs(threads) do
    for code, count in string.gmatch(thread:get("counts"), "(%d+) (%d+);") do
      statuses[code] = (statuses[code] or 0) + tonumber(count)
    end
  end
  local parts = {{}}
  for code, count in pairs(statuses) do table.insert(parts, string.format('"%s": %d', code, count)) end
  io.write(string.format(
    '\\nJSON {{"seconds": %.3f, "p50": %.1f, "p99": %.1f, "max": %.1f, "errors": %d, "statuses": {{%s}}}}\\n',
    summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3,
    summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    table.concat(parts, ", ")))
end
"""
"""A wrk script: sends an image, pauses at random for `pause` ms on average, counts statuses. Latencies are in ms."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modes", nargs="+", choices=MODES)
    parser.add_argument("--seconds", type=float, default=60, help="of each round of load")
    parser.add_argument("--rounds", type=int, default=3, help="of throughput")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--queue", type=int, default=128)
    parser.add_argument("--precision", choices=["auto", "float32", "bf16"], default="auto")
    parser.add_argument("--uploads", type=int, default=2000, help="of fuzz")
    parser.add_argument("--record", metavar="NAME", help="keep the figures in benchmarks/records/DATE-NAME")
    options = parser.parse_args()
    keep_freed_memory()
    facts = {"precision": options.precision, "threads": torch.get_num_threads()}
    with measurement(options.record, **facts) as figures, tempfile.TemporaryDirectory() as home:
        make_inputs(Path(home), options.width, options.size)
        for mode in options.modes:
            if mode == "fuzz":  # the decoders are tested, not the network
                make_inputs(Path(home), width=4, size=32)
            with Served(Path(home), options) as served:
                print(f"\n{mode}")
                figures[mode] = MODES[mode](served, options)
                problem = served.problem()
                assert not problem, problem


def make_inputs(home: Path, width: int, size: int) -> None:
    network = ResnetGenerator(width=width)
    initialise(network)
    save(network, Header(describe(network), "ab", size), home / "model.safetensors")
    coarse = np.random.default_rng(0).integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((size, size)).save(home / "image.jpg", quality=90)


class Served:
    """The command `twofold serve` in a process of its own."""

    def __init__(self, home: Path, options: argparse.Namespace) -> None:
        self.home, self.options = home, options
        self.model, self.image = home / "model.safetensors", (home / "image.jpg").read_bytes()
        self.errors = (home / "errors.txt").open("w+")

    def __enter__(self) -> "Served":
        command = [sys.executable, "-m", "twofold", "serve", self.model, "--no-open", "--port", "0"]
        command += ["--queue", self.options.queue, "--precision", self.options.precision, "--timeout", "600"]
        self.process = subprocess.Popen(
            [*map(str, command)], stdout=subprocess.PIPE, stderr=self.errors, text=True
        )
        assert self.process.stdout is not None
        found = re.search(r":(\d+)", self.process.stdout.readline())
        assert found, (self.home / "errors.txt").read_text()
        self.port = int(found[1])
        while self.get("/readyz")[0] != 200:
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        assert self.process.wait(60) == 0
        self.errors.close()

    def get(self, path: str) -> tuple[int, str]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()

    def metric(self, name: str) -> float:
        """The sum of a metric's values."""
        lines = self.get("/metrics")[1].splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[ {{]", line))

    def problem(self) -> str:
        """What is wrong with the server now; empty if nothing is."""
        if self.process.poll() is not None:
            return f"the server ended with code {self.process.returncode}"
        written = (self.home / "errors.txt").read_text()
        return written if "Traceback" in written else ""  # libtiff writes a line about some damaged files

    def wrk(self, clients: int, seconds: float, pause: float = 0) -> dict[str, Any]:
        """Load from so many connections; each waits `pause` ms on average between an answer and its next request."""
        script = self.home / "load.lua"
        script.write_text(
            LUA.format(image=self.home / "image.jpg", pause=pause, seed=random.randrange(10**6))
        )
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds:g}s", "--timeout", "600s", "-s", script]
        command += [f"http://127.0.0.1:{self.port}/translate"]
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
        found = re.search(r"^JSON (.*)$", done.stdout, re.M)
        assert found, done.stdout
        return json.loads(found[1])


# ---- modes


def throughput(served: Served, options: argparse.Namespace) -> dict[str, Any]:
    translator = load(served.model, precision=options.precision)
    served.wrk(options.clients, min(5, options.seconds))  # warms up
    bare_loop(translator, served.image, min(2, options.seconds))
    loops, loads, cpu_loops, cpu_loads = [], [], [], []
    for _ in range(options.rounds):
        rate, cpu = bare_loop(translator, served.image, options.seconds)
        loops.append(rate)
        cpu_loops.append(cpu)
        before, images = served.metric("process_cpu_seconds_total"), served.metric("twofold_images_total")
        found = served.wrk(options.clients, options.seconds)
        assert set(found["statuses"]) == {"200"} and not found["errors"], found
        loads.append(found["statuses"]["200"] / found["seconds"])
        images = served.metric("twofold_images_total") - images
        cpu_loads.append((served.metric("process_cpu_seconds_total") - before) / images)
        print(
            f"  loop {loops[-1]:.2f}, server {loads[-1]:.2f} images/s; p50 {found['p50']:.0f} ms", flush=True
        )
    figures = {
        "loop_images_per_s": statistics.median(loops),
        "server_images_per_s": statistics.median(loads),
        "ratio": statistics.median(loads) / statistics.median(loops),
        "loop_cpu_s_per_image": statistics.median(cpu_loops),
        "server_cpu_s_per_image": statistics.median(cpu_loads),
        "batch": served.metric("twofold_batch_size_sum") / served.metric("twofold_batch_size_count"),
    }
    show(figures)
    return figures


def bare_loop(translator: Translator, image: bytes, seconds: float) -> tuple[float, float]:
    """Images a second, and CPU seconds an image, of decode, network and encode without a server."""
    limits, batch, done = uploads.Limits(), translator.batch_size(), 0
    start, start_cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        decoded = [uploads.decode(image, translator, "trained", limits) for _ in range(batch)]
        outputs = translator.arrays([each.image for each in decoded])
        for each, output in zip(decoded, outputs, strict=True):
            uploads.encode(output, each, translator, "png")
        done += batch
    return done / (time.perf_counter() - start), (time.process_time() - start_cpu) / done


def latency(served: Served, options: argparse.Namespace) -> dict[str, Any]:
    rate = served.wrk(options.clients, min(5, options.seconds))
    images_per_s = rate["statuses"]["200"] / rate["seconds"]
    figures: dict[str, Any] = {}
    clients = 8
    loads = {f"clients_{count}": (count, 0.0) for count in (1, 2, 4, 8)}
    for share in (0.3, 0.5):  # each client waits long, so that arrivals hardly depend on answers
        loads[f"random_{share}"] = (clients, 1000 * clients / (share * images_per_s))
    for name, (count, pause) in loads.items():
        time.sleep(3)  # the network ends the batches of clients that have left
        found = served.wrk(count, options.seconds, pause)
        assert set(found["statuses"]) == {"200"} and not found["errors"], found
        figures[name] = {key: found[key] for key in ("p50", "p99", "max")}
        figures[name] |= {
            "ratio": found["p99"] / found["p50"],
            "images_per_s": found["statuses"]["200"] / found["seconds"],
        }
        print(f"  {name:<12} " + "  ".join(f"{key} {value:.2f}" for key, value in figures[name].items()))
    return figures


def saturation(served: Served, options: argparse.Namespace) -> dict[str, Any]:
    found = served.wrk(min(4 * options.queue, 800), options.seconds)
    allowed = set(found["statuses"]) <= {"200", "503"} and not found["errors"]
    figures = {
        "statuses": found["statuses"],
        "errors": found["errors"],
        "images_per_s": found["statuses"].get("200", 0) / found["seconds"],
        "only_200_and_503": allowed,
    }
    show(figures)
    return figures


def soak(served: Served, options: argparse.Namespace) -> dict[str, Any]:
    """Load, with damaged uploads and other sizes among it, while the memory is looked at."""
    ended, memory, statuses = threading.Event(), [], Counter[int]()
    mixed = threading.Thread(target=mix, args=(served, ended, statuses))
    mixed.start()
    load_of = threading.Thread(target=served.wrk, args=(16, options.seconds))
    load_of.start()
    start = time.monotonic()
    while load_of.is_alive():
        memory.append(served.metric("process_resident_memory_bytes") / 2**20)
        load_of.join(min(5, options.seconds / 20))
    ended.set()
    mixed.join()
    tenth = max(1, len(memory) // 10)
    early, late = (
        statistics.median(part) for part in (memory[2 * tenth : 3 * tenth + 1], memory[-tenth - 1 :])
    )
    figures = {
        **{"minutes": (time.monotonic() - start) / 60, "images": served.metric("twofold_images_total")},
        **{"first_mib": memory[0], "early_mib": early, "late_mib": late, "peak_mib": max(memory)},
        "growth_mib": late - early,
        "mixed_statuses": dict(statuses),
        "memory_mib": [round(each) for each in memory[:: max(1, len(memory) // 60)]],
    }
    show(figures)
    return figures


def mix(served: Served, ended: threading.Event, statuses: "Counter[int]") -> None:
    """Images of random sizes, damaged files, and connections that are cut off, until `ended`."""
    dice = random.Random(0)
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=120)
    for _, content in damaged(10**9, seed=3):
        if ended.is_set():
            break
        if dice.random() < 0.2:
            file = io.BytesIO()
            Image.new("RGB", (dice.randrange(1, 800), dice.randrange(1, 800))).save(file, "PNG")
            content = file.getvalue()
        statuses[send(connection, content)] += 1
        if dice.random() < 0.1:
            connection.close()
    connection.close()


def fuzz(served: Served, options: argparse.Namespace) -> dict[str, Any]:
    statuses, kinds = Counter[int](), Counter[str]()
    clients, start = 8, time.monotonic()

    def client(number: int) -> None:
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", served.port, timeout=120)
        ) as connection:
            for kind, content in damaged(options.uploads // clients, seed=number):
                status = send(connection, content)
                statuses[status] += 1
                if status >= 500 and status != 503:
                    kinds[kind] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    figures = {
        "uploads": statuses.total(),
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "server_errors": dict(kinds),
        "seconds": time.monotonic() - start,
    }
    show(figures)
    assert not kinds and not statuses[0], "a server error, or no answer"
    return figures


def send(connection: http.client.HTTPConnection, content: bytes) -> int:
    """The status of an upload's answer; 0 if there was none."""
    for _ in range(2):  # the server may have closed a kept connection
        try:
            connection.request("POST", "/translate?format=npy", content)
            answer = connection.getresponse()
            answer.read()
            return answer.status
        except (OSError, http.client.HTTPException):
            connection.close()
    return 0


def show(figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        print(f"  {name:<24} {value:.4g}" if isinstance(value, float) else f"  {name:<24} {value}")


Mode = Callable[[Served, argparse.Namespace], dict[str, Any]]
MODES: dict[str, Mode] = {each.__name__: each for each in (throughput, latency, saturation, soak, fuzz)}

if __name__ == "__main__":
    main()
