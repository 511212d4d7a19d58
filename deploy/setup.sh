#!/usr/bin/env bash
# Makes a bare Debian 12 (with Rust, Python 3.11 and make) ready. Idempotent: says what it does, skips what is there.
#
#   deploy/setup.sh run     what `make build` and `make run` need
#   deploy/setup.sh test    that, and what `make check` and `make test` need
set -euo pipefail
cd "$(dirname "$0")/.."
goal=${1:-run}

say() { printf 'setup: %s\n' "$*" >&2; }

# --- system packages ------------------------------------------------------------------------------------------------
packages=(pkg-config gcc g++ clang libclang-dev ffmpeg libavcodec-dev libavformat-dev libavutil-dev libswscale-dev
  python3-venv)
# Tests of workers that die send signals.
if [ "$goal" = test ] && ! type -P kill >/dev/null; then packages+=(procps); fi
if [ "$goal" = test ] && ! command -v npm >/dev/null; then packages+=(nodejs npm); fi
missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
# A python3 that is not Debian's brings its own venv.
if python3 -c 'import venv, ensurepip' 2>/dev/null; then missing=("${missing[@]/python3-venv/}"); fi
read -r -a missing <<<"${missing[*]:-}"
if [ ${#missing[@]} -gt 0 ]; then
  say "installing system packages: ${missing[*]}"
  as_root=(); [ "$(id -u)" = 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# --- ONNX Runtime ---------------------------------------------------------------------------------------------------
# The wheel is only a container for the shared library: no Python of that version is needed.
ort_version=1.31.1
ort_wheel=onnxruntime-$ort_version-cp312-cp312-manylinux_2_28_x86_64.whl
ort_sha256=1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536
if [ ! -e .onnxruntime/libonnxruntime.so.$ort_version ]; then
  say "fetching ONNX Runtime $ort_version"
  download=$(mktemp -d)
  trap 'rm -rf "$download"' EXIT
  python3 -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 \
    --implementation cp --platform manylinux_2_28_x86_64 -d "$download" onnxruntime==$ort_version
  echo "$ort_sha256  $download/$ort_wheel" | sha256sum --check --quiet
  mkdir -p .onnxruntime
  python3 - "$download/$ort_wheel" <<'PY'
import pathlib, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    for name in wheel.namelist():
        base = name.rsplit("/", 1)[-1]
        wanted = base.startswith(("libonnxruntime.so", "libonnxruntime_providers_shared.so"))
        if wanted or base in ("LICENSE", "ThirdPartyNotices.txt"):
            pathlib.Path(".onnxruntime", base).write_bytes(wheel.read(name))
PY
  ln -sfn libonnxruntime.so.$ort_version .onnxruntime/libonnxruntime.so
fi

# --- Python ---------------------------------------------------------------------------------------------------------
# `run` needs a renderer and an encoder for the sample video; `test` needs the references that tests compare with.
requirements=deploy/requirements-$goal.txt
stamp=.venv/.reelsight-$goal
if ! cmp -s "$requirements" "$stamp"; then
  say "installing Python packages of $requirements"
  [ -x .venv/bin/python ] || python3 -m venv .venv
  .venv/bin/python -m pip install -q --disable-pip-version-check -r "$requirements"
  cp "$requirements" "$stamp"
fi

say "ready for make $goal"
