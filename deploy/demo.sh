#!/usr/bin/env bash
# `make run`: serves on loopback, asks about a video over gRPC and shows what comes back.
set -euo pipefail
cd "$(dirname "$0")/.."
video=$1
binary=target/release/reelsight
question=${QUESTION:-"What shape is the red object?"}

data=$(mktemp -d)
log=$data/server.log
"$binary" serve --listen 127.0.0.1:0 --data-dir "$data" --media-root "$(dirname "$video")" >"$data/address" 2>"$log" &
server=$!
trap 'kill "$server" 2>/dev/null; wait "$server" 2>/dev/null || true; rm -rf "$data"' EXIT

for _ in $(seq 100); do
  [ -s "$data/address" ] && break
  kill -0 "$server" 2>/dev/null || { cat "$log" >&2; exit 5; }
  sleep 0.1
done
address=$(awk '{print $NF}' "$data/address")

echo "server:   $address"
echo "video:    $video"
echo "question: $question"
printf 'answer:   '
"$binary" ask "$video" "$question" --server "$address"
