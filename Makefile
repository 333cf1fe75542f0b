# The only entry point, for people and for CI.

SHELL := /bin/sh
export PATH := $(HOME)/.cargo/bin:$(PATH)
export PATH := $(PATH):/usr/sbin:/usr/local/go/bin
C_FILES = bpf/include/*.h bpf/*/*.bpf.c

.PHONY: build cross dist demo test test-containers propagation test-vm test-vm-arm64 verifier cost e2e bench fmt lint check-fmt check-arm64 clean packages test-packages test-helm test-image image test-kube

build: ## target/release/spanwire
	@tests/setup build
	cargo build --release --locked

# libelf and zlib are built in, so that no arm64 package of theirs is needed.
cross: ## target/aarch64-unknown-linux-gnu/release/spanwire
	@tests/setup build vendored cross
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc \
		AR_aarch64_unknown_linux_gnu=aarch64-linux-gnu-ar \
		cargo build --release --locked --features vendored --target aarch64-unknown-linux-gnu --bin spanwire

dist: ## the static binary, as it is shipped: target/dist/spanwire (x86-64)
	@tests/setup build vendored static
	packaging/static/build

demo: build ## three services, traced, as trees in the terminal
	@tests/setup demo
	@tests/demo/run target/release/spanwire

test: build ## unit, property, BPF and end-to-end tests; without root what can be run
	@tests/setup test || echo "skipped: what needs the missing packages"
	cargo test --release --locked --lib --test it --test rig
	@if [ "$$(id -u)" = 0 ]; then \
		for rig in run http2 runtimes grpc_core workers lacks namespaces; do python3 tests/bpf/$$rig.py || exit 1; done && \
		$(MAKE) --no-print-directory propagation && \
		cargo test --release --locked --test e2e -- $(E2E); \
	else \
		echo "skipped 3 suites (tests/bpf, tests/propagation, tests/e2e): loading BPF needs root"; \
	fi

test-containers: build ## containers of Podman, Docker, containerd, LXC and systemd-nspawn, run here, are named; needs root
	@tests/setup containers
	python3 tests/containers/run.py $(RUNTIMES)

# Chains in which the header alone carries the trace: services of one thread per request.
HEADERS_ALONE = OTEL_EBPF_BPF_CONTEXT_PROPAGATION=headers OTEL_EBPF_BPF_DISABLE_BLACK_BOX_CP=true

propagation: build ## headers in outgoing requests: bytes, clients, lifetime, hosts, W3C cases; needs root
	python3 tests/propagation/differential.py --claim lasting
	python3 tests/propagation/differential.py --claim brief
	python3 tests/propagation/visible.py
	python3 tests/propagation/visible.py --claim lasting
	python3 tests/propagation/joined.py
	python3 tests/propagation/w3c.py
	python3 tests/propagation/clients.py
	python3 tests/propagation/http2.py --streams 300 --claim lasting h2load h2load-own h2load-nginx h2load-large-table \
		nghttp-padding nghttp-trailers curl-upgrade libcurl httpx node-continuation go-trailers grpcio-grpcio grpcio-own grpc-js \
		grpc-java tonic other go-comes-and-goes h2spec-nghttpd
	python3 tests/propagation/http2.py --streams 300 grpcio proxy-nginx proxy-haproxy proxy-envoy curl-100MB
	python3 tests/propagation/lifetime.py
	python3 tests/propagation/sdk.py
	python3 tests/propagation/hosts.py || [ $$? = 3 ]
	$(HEADERS_ALONE) cargo test --release --locked --test e2e -- python-threading gunicorn-gthread apache-php puma puma-direct

test-kube: build ## Kubernetes metadata, from a real kube-apiserver; needs root, and builds that server once; CASES=... are those that run
	@tests/setup test kube
	python3 tests/kube/run.py $(CASES) || [ $$? = 3 ]

test-vm: build ## the kernel side, headers and two hosts on Debian's kernels, in emulated guests: the table of docs/KERNELS.md
	@tests/setup guests
	tests/vm/matrix $(ROWS)
	@[ -n '$(ROWS)' ] || $(MAKE) --no-print-directory test-vm-arm64

packages: dist ## deb and rpm of target/dist/spanwire, in target/packages
	@tests/setup packages
	packaging/build

# PACKAGES=lint checks without a guest; PACKAGES="bookworm trixie rpm" names guests.
test-packages: packages ## lints, and the life of each package in a booted systemd, in an emulated guest; needs root
	@tests/setup guests
	tests/packages/run $(PACKAGES)

PACKAGING_PYTHON = $${SPANWIRE_PACKAGING_VENV:-$${SPANWIRE_VENV:-$${XDG_CACHE_HOME:-$$HOME/.cache}/spanwire/venv}-packaging}/bin/python

test-helm: build ## the chart: lint, manifests as committed, Kubernetes' schemas, refused values; SPANWIRE_BLESS=1 writes the manifests
	@tests/setup helm
	SPANWIRE_BINARY=$${SPANWIRE_BINARY:-target/release/spanwire} $(PACKAGING_PYTHON) tests/helm/run.py

image: dist ## the container image, of what `make dist` left; IMAGE=name:tag, ENGINE=docker|podman|buildah
	packaging/container/image $${IMAGE:-spanwire:latest} amd64=target/dist/spanwire \
		$$([ ! -e target/dist/arm64/spanwire ] || echo arm64=target/dist/arm64/spanwire)

test-image: dist ## the image, run as the documents, composers and kubelets run it; needs root
	@tests/setup image
	$(PACKAGING_PYTHON) tests/image/run.py || [ $$? = 3 ]

verifier: ## on each kernel, by two compilers and each tier: does it load, and what does the verifier walk (tests/vm/verifier.json)
	@tests/setup build guests verifier
	tests/vm/verifier $(ROWS)

cost: build ## instructions a request and a hook, by tier, in a guest that counts them (docs/KERNELS.md); COST=--bless writes them
	@tests/setup guests
	@for tool in nginx wrk; do command -v $$tool >/dev/null || apt-get install -y -qq --no-install-recommends $$tool </dev/null; done
	tests/vm/cost $(COST)

test-vm-arm64: cross ## the same on arm64
	@tests/setup guests
	tests/vm/matrix "arm64 6.1" "arm64 6.18"

e2e: build
	@tests/setup test
	cargo test --release --locked --test e2e -- $(E2E)

bench: build ## figures of docs/BENCHMARKS.md, as ratios of one run
	@tests/setup test
	@command -v wrk >/dev/null || apt-get install -y -qq --no-install-recommends wrk </dev/null
	python3 tests/benches/nginx.py target/release/spanwire
	python3 tests/benches/nginx.py target/release/spanwire --page
	python3 tests/benches/nginx.py target/release/spanwire --http2
	python3 tests/benches/proxy.py target/release/spanwire
	cargo bench --locked --bench encode

fmt:
	cargo fmt
	clang-format -i --style=file:bpf/.clang-format $(C_FILES)

check-fmt:
	cargo fmt --check
	clang-format --dry-run -Werror --style=file:bpf/.clang-format $(C_FILES)

# Without a machine of that kind: the kernel side compiles against its types.
BPF_FLAGS = -mcpu=v3 -O2 -g -Wall -Wextra -Wpadded -Werror -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers -Wno-unused-function -fno-stack-protector

check-arm64: build
	@for source in bpf/*/*.bpf.c; do \
		$${BPF_CLANG:-clang} -target bpf -D__TARGET_ARCH_arm64 $(BPF_FLAGS) -I bpf/include -isystem vmlinux/arm64 \
			-isystem "$$(ls -d target/release/build/libbpf-sys-*/out/include | head -n 1)" -c "$$source" -o /dev/null || exit; \
	done

lint: check-fmt check-arm64
	cargo clippy --release --locked --all-targets -- -D warnings

clean:
	cargo clean
