"""How much sooner a follow-up's first token comes than the first ask's, on the same session, over gRPC.

    python tests/peers/follow_up.py --binary target/release/reelsight [--rounds 10]

Also prints the time to the first event. The clip is made with a real encoder.
"""

import argparse
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "quality"))
from ask_all import serving
from overlap import CLIP
from reflection_client import Client


def times(call, request) -> tuple[float, float, object]:
    """Seconds to the first event and to the first piece of text, and the result."""
    began, event_s, token_s = time.monotonic(), None, None
    for response in call(request, timeout=60):
        now = time.monotonic() - began
        event_s = now if event_s is None else event_s
        if token_s is None and response.WhichOneof("event") == "delta":
            token_s = now
    return event_s, token_s, response.result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/reelsight")
    parser.add_argument("--model", default="reelsight-tiny")
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        subprocess.run(["ffmpeg", "-v", "error", *CLIP, str(folder / "clip.mp4")], check=True)
        with serving(args.binary, [folder], args.model) as address:
            client = Client(address)
            call, ask = client.method("reelsight.v1.QaService", "Ask"), client.message("reelsight.v1.AskRequest")
            for _ in range(args.rounds):
                first = ask(question="How many objects are shown?", keep_session=True)
                first.source.server_path = "clip.mp4"
                event_s, token_s, result = times(call, first)
                _, again_s, follow = times(call, ask(session=result.session, question="Is anything moving?"))
                rows.append((event_s, token_s, again_s, token_s / again_s, follow.usage.cached_tokens))
    names = ("first event s", "first token s", "follow-up's first token s", "ratio", "cached tokens")
    for name, values in zip(names, zip(*rows)):
        print(f"{name}: median {statistics.median(values):.4f} (min {min(values):.4f}, max {max(values):.4f})")


if __name__ == "__main__":
    main()
