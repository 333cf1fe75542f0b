# The only entry point, for people and for CI.

SHELL := /bin/sh
export PATH := $(HOME)/.cargo/bin:$(PATH)
export PATH := $(PATH):/usr/sbin:/usr/local/go/bin
C_FILES = bpf/include/*.h bpf/*/*.bpf.c

.PHONY: build demo test e2e bench fmt lint check-fmt clean

build: ## target/release/spanwire
	@tests/setup build
	cargo build --release --locked

demo: build ## three services, traced, as trees in the terminal
	@tests/setup demo
	@tests/demo/run target/release/spanwire

test: build ## unit, property, BPF and end-to-end tests; without root what can be run
	@tests/setup test || echo "skipped: what needs the missing packages"
	cargo test --release --locked --lib --test it --test rig
	@if [ "$$(id -u)" = 0 ]; then \
		python3 tests/bpf/run.py && cargo test --release --locked --test e2e -- $(E2E); \
	else \
		echo "skipped 2 suites (tests/bpf, tests/e2e): loading BPF needs root"; \
	fi

e2e: build
	@tests/setup test
	cargo test --release --locked --test e2e -- $(E2E)

bench: build ## figures of docs/BENCHMARKS.md, as ratios of one run
	@tests/setup test
	@command -v wrk >/dev/null || apt-get install -y -qq --no-install-recommends wrk </dev/null
	python3 tests/benches/nginx.py target/release/spanwire
	cargo bench --locked --bench encode

fmt:
	cargo fmt
	clang-format -i --style=file:bpf/.clang-format $(C_FILES)

check-fmt:
	cargo fmt --check
	clang-format --dry-run -Werror --style=file:bpf/.clang-format $(C_FILES)

lint: check-fmt
	cargo clippy --release --locked --all-targets -- -D warnings

clean:
	cargo clean
