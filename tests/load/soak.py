"""Asks, follows up, cancels and misbehaves for a while; then the server must be as small and as alive as at the start.

    python tests/load/soak.py --binary target/release/reelsight --video FILE --seconds 120

Prints RSS, threads and open files, at rest after the first quarter (warm-up) and at rest after the last. Fails when the
server dies, when an ask fails untyped, when threads or open files do not come back to what they were, or when RSS has
grown by more than 10 %. Peaks under load say who was busy at that moment, so they are not compared.
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
    rng, rounds = random.Random(0), 0
    with tempfile.TemporaryDirectory() as data:
        server = subprocess.Popen([args.binary, "serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--model",
                                   args.model, "--media-root", str(args.video.resolve().parent)],
                                  stdout=subprocess.PIPE, text=True)
        try:
            client = Client(server.stdout.readline().split()[-1])

            def load(seconds: float) -> int:
                done, end = 0, time.monotonic() + seconds
                while time.monotonic() < end:
                    one_round(client, rng, args.video.name)
                    done += 1
                    assert server.poll() is None, "the server died"
                return done

            rounds = load(args.seconds / 4)
            early = at_rest(server.pid, None)
            rounds += load(args.seconds * 3 / 4)
            late = at_rest(server.pid, early)
        finally:
            server.terminate()
            server.wait(timeout=30)
    report(early, late, rounds)


def allowed(key: str, early: int) -> float:
    return early * 1.10 if key == "rss_kib" else early


def at_rest(pid: int, early: dict[str, int] | None) -> dict[str, int]:
    """What the server holds when nothing is asked of it. Idle threads end after 10 s, so it is given time; the later
    measurement ends as soon as it is back where it was."""
    for _ in range(15 if early is None else 40):
        time.sleep(1)
        now = resources(pid)
        if early and all(now[key] <= allowed(key, early[key]) for key in early):
            break
    return now


def report(early: dict[str, int], late: dict[str, int], rounds: int):
    failed = False
    for key in early:
        grown = late[key] > allowed(key, early[key])
        failed |= grown
        print(f"{key}: {early[key]} at rest after warm-up, {late[key]} at the end{'  GREW' if grown else ''}")
    print(f"soak: {rounds} rounds")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
