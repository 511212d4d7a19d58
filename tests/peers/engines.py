"""SmolLM2-135M in this engine, in onnxruntime-genai and in transformers: the same prompts, weights and threads, in turns.

    make llm OUT=.data/smollm2
    cargo build --release -p reelsight-engine --example tokens
    .venv/bin/python -m pip install -r tests/peers/requirements.txt
    .venv/bin/python tests/peers/engines.py --models .data/smollm2 [--threads 2] [--rounds 5] [--json out.json]

Every system runs in a process of its own that stays loaded; they take turns, and each ratio is the median over the rounds of
the ratio within one round. onnxruntime-genai runs the very graph of our folder (from input_ids instead of embeddings);
transformers the same weights in 32 bits, which is also what the 8-bit rows are compared with, because it has no such model.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKENS = ROOT / "target/release/examples/tokens"
NEW = 64


class Peer:
    """A system under test, spoken to in lines of JSON."""

    def __init__(self, name: str, command: list[str], **environment: str):
        self.name = name
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.process = subprocess.Popen(command, env=os.environ | environment, **pipes)
        self.about = json.loads(self.process.stdout.readline())

    def ask(self, prompts: list[list[int]], max_tokens: int = NEW) -> dict:
        """All prompts at the same time."""
        self.process.stdin.write(json.dumps({"prompts": prompts, "max_tokens": max_tokens}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        """Ends the process."""
        self.process.stdin.close()
        self.process.wait()


def speak(ready: str, answer) -> None:
    """The other side: answers one prompt after the other."""
    print(json.dumps({"ready": ready}), flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        begin = time.perf_counter()
        answers = [answer(prompt, request["max_tokens"]) for prompt in request["prompts"]]
        print(json.dumps({"seconds": time.perf_counter() - begin, "answers": answers}), flush=True)


def timed(stamps: list[float], begin: float, tokens: list[int]) -> dict:
    """An answer as the engine's own program reports it."""
    gaps = [after - before for before, after in zip(stamps, stamps[1:], strict=False)]
    return {"tokens": tokens, "first": stamps[0] - begin, "gaps": gaps, "wall": stamps[-1] - begin}


def genai(folder: str, threads: int) -> None:
    """Serves a folder with onnxruntime-genai."""
    import numpy as np
    import onnxruntime_genai as og

    config = og.Config(folder)
    options = {"session_options": {"intra_op_num_threads": threads}}
    config.overlay(json.dumps({"model": {"decoder": options}}))
    model = og.Model(config)

    def answer(prompt: list[int], count: int) -> dict:
        begin = time.perf_counter()
        params = og.GeneratorParams(model)
        params.set_search_options(max_length=len(prompt) + count, do_sample=False)
        generator, tokens, stamps = og.Generator(model, params), [], []
        generator.append_tokens(np.asarray([prompt], np.int32))
        while not generator.is_done():
            generator.generate_next_token()
            tokens.append(int(generator.get_next_tokens()[0]))
            stamps.append(time.perf_counter())
        return timed(stamps, begin, tokens)

    speak("onnxruntime-genai", answer)


def transformers(gguf: str, threads: int) -> None:
    """Serves the dequantised weights with transformers' generate."""
    import torch

    from convert import source

    torch.set_num_threads(threads)
    model, _ = source.load(pathlib.Path(gguf))

    class Clock:
        """A streamer that notes when tokens come; the prompt itself comes first."""

        def __init__(self):
            self.stamps = []

        def put(self, _value):
            self.stamps.append(time.perf_counter())

        def end(self):
            pass

    def answer(prompt: list[int], count: int) -> dict:
        clock, begin = Clock(), time.perf_counter()
        with torch.inference_mode():
            out = model.generate(torch.tensor([prompt]), max_new_tokens=count, do_sample=False, streamer=clock)
        return timed(clock.stamps[1:], begin, out[0, len(prompt) :].tolist())

    speak("transformers", answer)


def start(name: str, args) -> Peer:
    """Starts `reelsight-q8`, `reelsight-concat`, `reelsight-published`, `genai-fp32`, `transformers`..."""
    models, threads = args.models, str(args.threads)
    system, _, form = name.partition("-")
    if system == "reelsight":
        # A cache folder that cannot be: the graph stays as it was published.
        environment = {"REELSIGHT_CACHE_DIR": "/dev/null"} if form == "published" else {}
        folder = models / {"published": "concat"}.get(form, form)
        place = str(ROOT / ".onnxruntime/libonnxruntime.so")
        library = {"ORT_DYLIB_PATH": os.environ.get("ORT_DYLIB_PATH", place)}
        device = ["--cuda"] if args.cuda else []
        return Peer(name, [str(TOKENS), str(folder), "--threads", threads, *device], **library | environment)
    place = models / f"genai-{form}" if system == "genai" else next((models / "source").glob("*.gguf"))
    path = {"PYTHONPATH": str(ROOT / "models/training"), "OMP_NUM_THREADS": threads}
    return Peer(name, [sys.executable, __file__, "--worker", system, "--place", str(place), "--threads", threads], **path)


def decode_rate(answer: dict) -> float:
    """Tokens a second after the first."""
    rest = len(answer["tokens"]) - 1
    return rest / (answer["wall"] - answer["first"])


def long_prompt(prompts: list[list[int]], length: int) -> list[int]:
    """Ordinary text of a given length: questions in a row."""
    ids = [token for prompt in prompts for token in prompt]
    return (ids * (length // len(ids) + 1))[:length]


def single(peers: list[Peer], prompts: list[list[int]], length: int, rounds: int) -> dict:
    """One request at a time: a prompt of ordinary length, then an answer."""
    prompt = long_prompt(prompts, length)
    for peer in peers:
        peer.ask([prompt], 8)
    rows = {peer.name: {"first": [], "rate": []} for peer in peers}
    for _ in range(rounds):
        for peer in peers:
            [answer] = peer.ask([prompt])["answers"]
            rows[peer.name]["first"].append(answer["first"])
            rows[peer.name]["rate"].append(decode_rate(answer))
            print(peer.name, rows[peer.name]["first"][-1], rows[peer.name]["rate"][-1], file=sys.stderr)
    return rows


def ratios(ours: list[float], theirs: list[float]) -> float:
    """The median of the ratios of each round."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def concurrent(peer: Peer, prompts: list[list[int]], rounds: int) -> dict:
    """Eight at once against the same eight one by one."""
    rows = {"one_by_one": [], "together": [], "overhead": []}
    same = 0
    for _ in range(rounds):
        alone = [peer.ask([prompt]) for prompt in prompts]
        seconds = sum(run["seconds"] for run in alone)
        together = peer.ask(prompts)
        count = sum(len(run["answers"][0]["tokens"]) for run in alone)
        rows["one_by_one"].append(count / seconds)
        rows["together"].append(sum(len(a["tokens"]) for a in together["answers"]) / together["seconds"])
        rows["overhead"].append(1 - together["run_secs"] / together["step_secs"])
        pairs = zip(alone, together["answers"], strict=True)
        same += sum(run["answers"][0]["tokens"] == answer["tokens"] for run, answer in pairs)
    return rows | {"same_answers": same, "of": rounds * len(prompts)}


def gaps(peer: Peer, prompts: list[list[int]]) -> dict:
    """What a running answer notices of a 4,096-token prompt that arrives beside it."""
    calm = peer.ask([prompts[0]], 128)["answers"][0]
    together = peer.ask([prompts[0], long_prompt(prompts, 4096)], 128)["answers"][0]
    alone = peer.ask([long_prompt(prompts, 512)], 1)["answers"][0]
    return {
        "calm_median": statistics.median(calm["gaps"]),
        "worst_beside_prefill": max(together["gaps"]),
        "chunk_of_512": alone["prefill"],
    }


def deep(args, prompts: list[list[int]], length: int, rounds: int) -> dict:
    """Decoding behind a long context: a published concat graph as it is, and converted."""
    prompt, rows = long_prompt(prompts, length), {}
    peers = [start(name, args) for name in ("reelsight-published", "reelsight-concat")]
    for peer in peers:
        rows[peer.name] = []
    for _ in range(rounds):
        for peer in peers:
            [answer] = peer.ask([prompt], 32)["answers"]
            rows[peer.name].append(decode_rate(answer))
    for peer in peers:
        peer.close()
    return rows


def greedy(peer: Peer, golden: list[dict]) -> dict:
    """How many of transformers' greedy answers come out token for token."""
    count = len(golden[0]["tokens"])
    found = [peer.ask([case["ids"]], count)["answers"][0]["tokens"] for case in golden]
    return {"same": sum(a == case["tokens"] for a, case in zip(found, golden, strict=True)), "of": len(golden)}


def table(result: dict) -> None:
    """Prints what a person wants to know."""
    middle = statistics.median
    for precision, rows in result["single"].items():
        ours = rows[f"reelsight-{precision}"]
        print(f"\n### {precision}, one request at a time\n\n| | first token | tokens/s | TTFT ratio | tokens/s ratio |")
        print("|---|---|---|---|---|")
        for name, row in rows.items():
            first, rate = ratios(row["first"], ours["first"]), ratios(ours["rate"], row["rate"])
            print(f"| {name} | {middle(row['first']) * 1e3:.0f} ms | {middle(row['rate']):.1f} | {first:.2f} | {rate:.2f} |")
    for precision, rows in result["concurrent"].items():
        ratio = ratios(rows["together"], rows["one_by_one"])
        print(f"\n{precision}, 8 requests: one by one {middle(rows['one_by_one']):.1f} tokens/s, together "
              f"{middle(rows['together']):.1f}, ratio {ratio:.2f}; overhead {middle(rows['overhead']):.1%}; "
              f"{rows['same_answers']} of {rows['of']} answers the same")
    for precision, rows in result["gaps"].items():
        print(f"{precision}, gaps of a running answer: {rows['calm_median'] * 1e3:.0f} ms calm, worst "
              f"{rows['worst_beside_prefill'] * 1e3:.0f} ms beside a 4,096-token prefill; 512 tokens alone take "
              f"{rows['chunk_of_512'] * 1e3:.0f} ms")
    for precision, row in result["golden"].items():
        print(f"{precision}: {row['same']} of {row['of']} greedy answers are those of transformers in 32 bits")
    if deepest := result.get("deep"):
        published, converted = deepest["reelsight-published"], deepest["reelsight-concat"]
        print(f"decode behind {result['context']} tokens: concat {middle(published):.2f} tokens/s, converted "
              f"{middle(converted):.2f}, ratio {ratios(converted, published):.2f}")


def measure(args) -> dict:
    """Runs everything that was asked for."""
    golden = json.loads((ROOT / "models/training/convert/smollm2_golden.json").read_text())
    prompts = [case["ids"] for case in golden]
    result = {"threads": args.threads, "rounds": args.rounds, "context": args.context}
    result |= {"single": {}, "concurrent": {}, "gaps": {}, "golden": {}}
    parts = args.parts.split(",")
    for precision in args.precisions.split(","):
        ours = start(f"reelsight-{precision}", args)
        if "golden" in parts:
            result["golden"][precision] = greedy(ours, golden)
        if "single" in parts:
            peers = [ours, *(start(name, args) for name in args.peers.format(precision).split(",") if name)]
            result["single"][precision] = single(peers, prompts, args.prompt, args.rounds)
            for peer in peers[1:]:
                peer.close()
        if "concurrent" in parts:
            result["concurrent"][precision] = concurrent(ours, prompts, args.rounds)
        if "gaps" in parts:
            result["gaps"][precision] = gaps(ours, prompts)
        ours.close()
    if "deep" in parts:
        result["deep"] = deep(args, prompts, args.context, min(args.rounds, 3))
    return result


def main() -> None:
    """Measures, or is one of the systems that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=pathlib.Path, default=ROOT / ".data/smollm2")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--prompt", type=int, default=512)
    parser.add_argument("--context", type=int, default=8000)
    parser.add_argument("--peers", default="genai-{},transformers", help="with whom; empty for nobody")
    parser.add_argument("--precisions", default="fp32,q8")
    parser.add_argument("--parts", default="golden,single,concurrent,gaps,deep")
    parser.add_argument("--cuda", action="store_true", help="run this engine on the GPU")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--worker", choices=("genai", "transformers"), help=argparse.SUPPRESS)
    parser.add_argument("--place", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        {"genai": genai, "transformers": transformers}[args.worker](args.place, args.threads)
        return
    result = measure(args)
    table(result)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
