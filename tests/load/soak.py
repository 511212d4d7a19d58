"""Asks, follows up, cancels and misbehaves for a while; then the server must be as small and as alive as at the start.

    python tests/load/soak.py --binary target/release/reelsight --video FILE --seconds 120

Prints RSS, threads and open files over time. Fails when the server dies, when an ask fails untyped, or when threads or
open files grow from the second quarter to the last, or RSS by more than 10 % (the first quarter is warm-up).
"""

import argparse
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "quality"))
import grpc
from reflection_client import Client


def resources(pid: int) -> dict[str, int]:
    status = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    return {"rss_kib": int(status["VmRSS"].split()[0]), "threads": int(status["Threads"]),
            "files": len(os.listdir(f"/proc/{pid}/fd"))}


def one_round(client: Client, rng: random.Random, name: str) -> str:
    """One random thing that a client may do; returns what it was."""
    ask = client.method("reelsight.v1.QaService", "Ask")
    request = client.message("reelsight.v1.AskRequest")()
    request.source.server_path = name
    request.question = rng.choice(["What color is the circle?", "How many objects are shown?", "Is anything moving?"])
    request.options.citations = rng.random() < 0.5
    action = rng.choice(["ask", "follow up", "cancel", "deadline", "bad path", "empty question"])
    if action == "ask":
        list(ask(request, timeout=60))
    elif action == "follow up":
        request.keep_session = True
        session = list(ask(request, timeout=60))[-1].result.session
        follow = client.message("reelsight.v1.AskRequest")(session=session, question="How many objects are there?")
        result = list(ask(follow, timeout=60))[-1].result
        assert result.usage.cached_tokens > 0, "a follow-up must reuse the KV cache"
        delete = client.method("reelsight.v1.QaService", "DeleteSession")
        delete(client.message("reelsight.v1.DeleteSessionRequest")(name=session), timeout=10)
    elif action == "cancel":
        call = ask(request, timeout=60)
        for _ in range(rng.randrange(1, 4)):
            next(call, None)
        call.cancel()
    else:
        if action == "bad path":
            request.source.server_path = "no/such/file.mp4"
        elif action == "empty question":
            request.question = ""
        try:
            list(ask(request, timeout=0.01 if action == "deadline" else 60))
            assert action == "deadline", f"{action} must fail"
        except grpc.RpcError as error:
            assert error.code() not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN), error
    return action


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/reelsight")
    parser.add_argument("--video", type=pathlib.Path, required=True)
    parser.add_argument("--model", default="reelsight-tiny")
    parser.add_argument("--seconds", type=float, default=120)
    args = parser.parse_args()
    rng, samples, rounds = random.Random(0), [], 0
    with tempfile.TemporaryDirectory() as data:
        server = subprocess.Popen([args.binary, "serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--model",
                                   args.model, "--media-root", str(args.video.resolve().parent)],
                                  stdout=subprocess.PIPE, text=True)
        try:
            client = Client(server.stdout.readline().split()[-1])
            end = time.monotonic() + args.seconds
            while time.monotonic() < end:
                one_round(client, rng, args.video.name)
                rounds += 1
                assert server.poll() is None, "the server died"
                if not samples or time.monotonic() - samples[-1][0] > args.seconds / 40:
                    samples.append((time.monotonic(), resources(server.pid)))
        finally:
            server.terminate()
            server.wait(timeout=30)
    report(samples, rounds)


def report(samples, rounds):
    quarter = len(samples) // 4
    failed = False
    for key, tolerance in [("rss_kib", 1.10), ("threads", 1.0), ("files", 1.0)]:
        early = max(s[key] for _, s in samples[quarter : 2 * quarter])
        late = max(s[key] for _, s in samples[-quarter:])
        grown = late > early * tolerance + (0 if key == "rss_kib" else 2)
        failed |= grown
        print(f"{key}: {early} in the second quarter, {late} in the last{'  GREW' if grown else ''}")
    print(f"soak: {rounds} rounds")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
