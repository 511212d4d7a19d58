#!/usr/bin/env bash
# What takes long. SLICE=1 (CI) keeps each part under 3 minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
py=.venv/bin/python
binary=target/release/reelsight
if [ -n "${SLICE:-}" ]; then files=250 soak=40; else files=2000 soak=1800; fi
[ -e .setup/sample.mp4 ] || make --no-print-directory sample

$py tests/fuzz/mutate_media.py --binary $binary --count $files --seconds $((soak * 3))
$py tests/load/soak.py --binary $binary --video .setup/sample.mp4 --seconds $soak
if [ -z "${SLICE:-}" ]; then
  $py tests/peers/overlap.py --binary $binary
  $py tests/load/large.py --binary $binary
  if /usr/bin/python3 -c "import gi; gi.require_version('GstApp', '1.0')" 2>/dev/null; then
    $py tests/peers/gstreamer.py --binary $binary
  fi
  $py tests/peers/pts.py --binary $binary target/tmp/conformance/{h264,hevc,open,containers,mpeg}
  REELSIGHT_ALL_CLIPS=1 cargo test --release -p reelsight-decode --test decode conformance::shared_clips
fi
# Beside transformers and onnxruntime-genai, where `make llm` has run.
if [ -z "${SLICE:-}" ] && [ -d .data/smollm2 ]; then
  cargo build --release -p reelsight-engine --example tokens
  $py -m pip install -q --disable-pip-version-check -r tests/peers/requirements.txt
  $py tests/peers/engines.py
fi
