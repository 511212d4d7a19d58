#!/usr/bin/env bash
# Golden prompts and timings on an NVIDIA GPU, in one go: needs its driver, the network and `make llm`.
#
#   make gpu-check [OUT=.data/smollm2]
#
# Fetches the GPU build of ONNX Runtime with CUDA 13 and cuDNN 9 from PyPI into .setup/gpu; nothing else is touched.
set -euo pipefail
cd "$(dirname "$0")/.."
models=${1:-.data/smollm2}
version=1.31.1
gpu=$PWD/.setup/gpu

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
[ -e "$models/fp32" ] || make --no-print-directory llm OUT="$models"
if [ ! -e "$gpu/onnxruntime/capi/libonnxruntime_providers_cuda.so" ]; then
  .venv/bin/python -m pip install -q --disable-pip-version-check --target "$gpu" "onnxruntime-gpu[cuda,cudnn]==$version"
fi
ln -sfn "libonnxruntime.so.$version" "$gpu/onnxruntime/capi/libonnxruntime.so"
libraries=$(find "$gpu/nvidia" -type d -name lib | paste -sd:)
export ORT_DYLIB_PATH=$gpu/onnxruntime/capi/libonnxruntime.so LD_LIBRARY_PATH=$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

cargo build --release --bin reelsight
cargo build --release -p reelsight-engine --example tokens
target/release/reelsight doctor
.venv/bin/python tests/peers/engines.py --models "$models" --cuda --peers "" --parts golden,single,concurrent,gaps \
  --json .setup/gpu-check.json
