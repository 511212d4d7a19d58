"""Asks every question of an evaluation set over gRPC and scores the answers and the citations.

    python tests/quality/ask_all.py --set DIR --binary target/release/reelsight [--json FILE] [--no-blind]

DIR comes from `make eval-questions`: videos and questions.jsonl with video, question, answer, family,
evidence_start_s, evidence_end_s. Prints Markdown: accuracy per family beside the majority answer and the blind run
(the same questions about black videos of the same length), NO_EVIDENCE precision and recall, and citations (recall at
IoU 0.5, mean IoU) beside whole-video and random-window citations with paired bootstrap intervals.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import json
import pathlib
import random
import subprocess
import tempfile

import av
import numpy as np
from reflection_client import Client

NOT_SHOWN = "not shown"


@contextlib.contextmanager
def serving(binary: str, roots: list[pathlib.Path], model: str):
    """A server on a free loopback port; yields its address."""
    with tempfile.TemporaryDirectory() as data:
        command = [binary, "serve", "--listen", "127.0.0.1:0", "--data-dir", data, "--model", model]
        for root in roots:
            command += ["--media-root", str(root.resolve())]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            line = server.stdout.readline().split()
            if not line:
                raise SystemExit("the server did not start")
            yield line[-1]
        finally:
            server.terminate()
            server.wait(timeout=30)


def asker(address: str):
    """A function (path, question) -> answer; made once, because descriptor pools are not filled by two threads."""
    client = Client(address)
    request, call = client.message("reelsight.v1.AskRequest"), client.method("reelsight.v1.QaService", "Ask")
    return lambda path, question: ask(request(), call, path, question)


def ask(request, call, path: str, question: str) -> dict:
    """One question about one file under a media root."""
    request.source.server_path = path
    request.question = question
    request.options.citations = True
    for event in call(request, timeout=120):
        if event.WhichOneof("event") == "result":
            return {
                "answer": event.result.answer.strip(),
                "finish": event.result.finish_reason,
                "duration": seconds(event.result.sampling_report.media_duration),
                "spans": [(seconds(c.range.start_offset), seconds(c.range.end_offset)) for c in event.result.citations],
            }
    raise RuntimeError(f"no result for {path}")


def seconds(duration) -> float:
    return duration.seconds + duration.nanos / 1e9


def blacken(source: pathlib.Path, target: pathlib.Path):
    """The same length and size, every pixel zero."""
    with av.open(str(source)) as video:
        stream = video.streams.video[0]
        frames, rate, width, height = stream.frames, stream.average_rate, stream.width, stream.height
    with av.open(str(target), "w") as out:
        stream = out.add_stream("libx264", rate=rate, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        black = np.zeros((height, width, 3), np.uint8)
        for _ in range(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(black, format="rgb24")))
        out.mux(stream.encode())


def iou(a: tuple[float, float], b: tuple[float, float]) -> float:
    inter = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    union = max(a[1], b[1]) - min(a[0], b[0])
    return inter / union if union > 0 else 0.0


def bootstrap(values: np.ndarray, rounds: int = 2000) -> tuple[float, float]:
    """95 % interval of the mean."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (rounds, len(values)))].mean(axis=1)
    return tuple(np.percentile(means, [2.5, 97.5]))


def accuracy_table(items, answers, blind) -> list[str]:
    rows = ["| family | n | accuracy (95 %) | majority | blind | 1/answers |", "|---|---|---|---|---|---|"]
    families = collections.defaultdict(list)
    for i, item in enumerate(items):
        families[item["family"]].append(i)
    for family, indices in sorted(families.items()):
        right = np.array([answers[i]["answer"] == items[i]["answer"] for i in indices], float)
        truth = collections.Counter(items[i]["answer"] for i in indices)
        low, high = bootstrap(right)
        blind_score = np.mean([blind[i]["answer"] == items[i]["answer"] for i in indices]) if blind else float("nan")
        rows.append(f"| {family} | {len(indices)} | {right.mean():.3f} ({low:.3f}-{high:.3f}) | "
                    f"{truth.most_common(1)[0][1] / len(indices):.3f} | {blind_score:.3f} | {1 / len(truth):.3f} |")
    return rows


def no_evidence_line(items, answers) -> str:
    said = [a["finish"] == 3 for a in answers]  # FINISH_REASON_NO_EVIDENCE
    true = [item["answer"] == NOT_SHOWN for item in items]
    both = sum(s and t for s, t in zip(said, true))
    return (f"NO_EVIDENCE: precision {both / max(1, sum(said)):.3f} of {sum(said)} said, "
            f"recall {both / max(1, sum(true)):.3f} of {sum(true)} unanswerable")


def citation_table(items, answers) -> list[str]:
    """Answerable questions whose evidence is an interval; the first (best) citation counts."""
    rng = random.Random(0)
    ours, whole, window = [], [], []
    for item, answer in zip(items, answers):
        if item["answer"] == NOT_SHOWN or item["evidence_end_s"] is None:
            continue
        truth = (item["evidence_start_s"], item["evidence_end_s"])
        duration = max(answer["duration"], truth[1])
        length = rng.uniform(0.0, duration)
        start = rng.uniform(0.0, duration - length)
        ours.append(iou(answer["spans"][0], truth) if answer["spans"] else 0.0)
        whole.append(iou((0.0, duration), truth))
        window.append(iou((start, start + length), truth))
    ours, whole, window = map(np.array, (ours, whole, window))
    rows = [f"{len(ours)} questions", "", "| citation | recall at IoU 0.5 | mean IoU |", "|---|---|---|"]
    for name, values in [("Reelsight", ours), ("whole video", whole), ("random window", window)]:
        rows.append(f"| {name} | {np.mean(values >= .5):.3f} | {values.mean():.3f} |")
    for name, values in [("whole video", whole), ("random window", window)]:
        low, high = bootstrap(ours - values)
        rlow, rhigh = bootstrap((ours >= .5).astype(float) - (values >= .5))
        rows.append(f"\nPaired difference to {name}: mean IoU {low:+.3f} to {high:+.3f}, "
                    f"recall {rlow:+.3f} to {rhigh:+.3f} (95 %)")
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", type=pathlib.Path, required=True)
    parser.add_argument("--binary", default="target/release/reelsight")
    parser.add_argument("--model", default="reelsight-tiny")
    parser.add_argument("--json", type=pathlib.Path, help="write every answer here")
    parser.add_argument("--no-blind", action="store_true")
    args = parser.parse_args()
    items = [json.loads(line) for line in (args.set / "questions.jsonl").read_text().splitlines()]
    with tempfile.TemporaryDirectory() as black:
        black = pathlib.Path(black)
        names = sorted({item["video"] for item in items})
        if not args.no_blind:
            for name in names:
                (black / "black" / name).parent.mkdir(parents=True, exist_ok=True)
                blacken(args.set / name, black / "black" / name)
        with serving(args.binary, [args.set, black], args.model) as address:
            ask_one = asker(address)
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                answers = list(pool.map(lambda i: ask_one(i["video"], i["question"]), items))
                blind = [] if args.no_blind else list(
                    pool.map(lambda i: ask_one(f"black/{i['video']}", i["question"]), items))
    if args.json:
        args.json.write_text(json.dumps([{**i, **a} for i, a in zip(items, answers)], indent=1))
    print("\n".join(accuracy_table(items, answers, blind)))
    print("\n" + no_evidence_line(items, answers) + "\n")
    print("\n".join(citation_table(items, answers)))


if __name__ == "__main__":
    main()
