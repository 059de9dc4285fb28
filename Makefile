# Everything a developer or a user of the sources needs. The first run sets up .venv and builds; later runs are quick.

PYTHON ?= python3
VENV := .venv
BENCH_VENV := .venv-bench
FUZZ_SECONDS ?= 60
# Variables, because a comma would end an argument of `quietly`.
DEMO_EXTRAS := otlp,demo
MATRIX := oldest newest
MATRIX_WHEELS := target/wheels/matrix
MATRIX_TESTS := tests/unit tests/conformance tests/property tests/integration
newest_EXTRAS := otlp,views,file-config,test
oldest_EXTRAS := $(newest_EXTRAS),demo,test-contrib
TEST_EXTRAS := $(oldest_EXTRAS),test-servers,test-clients,lint
BENCH_EXTRAS := otlp,bench
BENCH_ALONE := $(BENCH_VENV)/alone
BENCH_WHEELS := target/wheels/bench
BIN := $(VENV)/bin
NATIVE := Cargo.toml Cargo.lock $(shell find crates/core/src crates/python -name '*.rs' -o -name Cargo.toml 2>/dev/null)
PYTHON_SOURCES := $(shell find src -name '*.py' -o -name '*.pyi' 2>/dev/null)
PACKAGING := pyproject.toml constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt

# Runs a command whose output goes to a log beside the target and is shown if it fails.
quietly = @$(1) >$(@D)/setup.log 2>&1 || { cat $(@D)/setup.log; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help tools demo collector peers test chaos test-rust test-python test-oldest test-newest lint typecheck check fmt build build-debug bench \
	bench-record bench-views bench-memory bench-startup bench-export bench-observer bench-exit bench-workers bench-spans bench-accuracy fuzz clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

tools:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing; install Python 3.10 or newer, or run: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "make: $(PYTHON) is older than 3.10; run: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: $(PYTHON) has no venv module; on Debian or Ubuntu: apt-get install python3-venv"; exit 2; }
	@command -v cargo >/dev/null || { echo "make: cargo is missing; install a Rust toolchain 1.85 or newer from https://rustup.rs"; exit 2; }
	@command -v cc >/dev/null || { echo "make: cc is missing; on Debian or Ubuntu: apt-get install gcc libc6-dev"; exit 2; }

%/.ready: $(PACKAGING) | tools
	@echo "Setting up $* (once; some minutes on a new machine; what it does: tail -f $*/setup.log) ..."
	@$(PYTHON) -m venv $*
	$(call quietly,$*/bin/pip install --upgrade pip maturin)
	@touch $@

$(VENV)/.demo: $(VENV)/.ready $(NATIVE)
	@echo "Building the native core and installing what the demo needs ..."
	$(call quietly,$(BIN)/maturin develop --release --extras $(DEMO_EXTRAS))
	@touch $@

$(VENV)/.test: $(VENV)/.ready $(NATIVE)
	@echo "Building the native core and installing what the tests need ..."
	$(call quietly,$(BIN)/maturin develop --release --extras $(TEST_EXTRAS))
	@touch $@ $(VENV)/.demo

# Benchmarks compare with the stock distribution, which must not be installed where tests and demo expect ours to be the only one. They get the wheel
# that users get: pip byte-compiles it, while sources installed in place would be compiled at each start where no bytecode may be written.
$(BENCH_VENV)/.bench: $(BENCH_VENV)/.ready $(NATIVE) $(PYTHON_SOURCES)
	@echo "Building the wheel and installing it beside what the benchmarks compare with ..."
	@rm -rf $(BENCH_WHEELS)
	$(call quietly,$(BENCH_VENV)/bin/maturin build --release --interpreter $(BENCH_VENV)/bin/python --out $(BENCH_WHEELS))
	$(call quietly,$(BENCH_VENV)/bin/pip install "$$(echo $(BENCH_WHEELS)/*.whl)[$(BENCH_EXTRAS)]")
	$(call quietly,$(BENCH_VENV)/bin/pip install --force-reinstall --no-deps --compile $(BENCH_WHEELS)/*.whl)
	@touch $@

# Starting is compared between environments that have one distribution each: the wrapper loads something of every one that is installed.
$(BENCH_ALONE)/.ready: $(BENCH_VENV)/.bench
	@echo "Installing each distribution into an environment of its own ..."
	@mkdir -p $(@D)
	$(call quietly,for name in otel_perf stock; do $(PYTHON) -m venv $(BENCH_ALONE)/$$name || exit 1; done)
	$(call quietly,$(BENCH_ALONE)/otel_perf/bin/pip install "$$(echo $(BENCH_WHEELS)/*.whl)[otlp]")
	$(call quietly,$(BENCH_ALONE)/otel_perf/bin/pip install --force-reinstall --no-deps --compile $(BENCH_WHEELS)/*.whl)
	$(call quietly,$(BENCH_ALONE)/stock/bin/pip install opentelemetry-distro opentelemetry-exporter-prometheus \
		opentelemetry-exporter-otlp-proto-grpc opentelemetry-exporter-otlp-proto-http)
	@touch $@

demo: $(VENV)/.demo ## Start the shop under opentelemetry-instrument, drive load at it, print live tables. DEMO_SECONDS=N ends it.
	@$(BIN)/python -m examples.shop.demo

collector: ## Build the OpenTelemetry Collector that tests need (once, some minutes; Go). Without it they are skipped.
	@$(PYTHON) -m tests.peers.collector_build

peers: ## Fetch Debian's Prometheus, Redis, memcached and PostgreSQL, which tests need (once). Without them they are skipped.
	@$(PYTHON) -m tests.peers.prometheus_package
	@$(PYTHON) -m tests.peers.debian_package

test: test-rust test-python ## Run all tests.

test-rust: tools
	cargo test --quiet --workspace --exclude otel-perf-python

test-python: $(VENV)/.test
	@$(PYTHON) -m tests.peers.prometheus_package || true
	@$(PYTHON) -m tests.peers.debian_package || true
	$(BIN)/python -m pytest --quiet

# The oldest and the newest OpenTelemetry have an environment each, with the wheel and not the sources, so that what is tested is what users get.
$(MATRIX_WHEELS)/.built: $(VENV)/.ready $(NATIVE) $(PYTHON_SOURCES)
	@echo "Building the wheel ..."
	@mkdir -p $(@D) && rm -f $(@D)/*.whl
	$(call quietly,$(BIN)/maturin build --release --interpreter $(BIN)/python --out $(@D))
	@touch $@

$(MATRIX:%=$(VENV)-%/.test): $(VENV)-%/.test: $(VENV)-%/.ready constraints-%.txt $(MATRIX_WHEELS)/.built
	@echo "Installing the wheel beside the $* OpenTelemetry ..."
	@{ cat constraints-$*.txt; grep -v '^opentelemetry-' constraints.txt; } >$(@D)/constraints.txt
	$(call quietly,PIP_CONSTRAINT=$(@D)/constraints.txt $(@D)/bin/pip install "$$(echo $(MATRIX_WHEELS)/*.whl)[$($*_EXTRAS)]")
	$(call quietly,$(@D)/bin/pip install --force-reinstall --no-deps $(MATRIX_WHEELS)/*.whl)
	@touch $@

test-oldest: $(VENV)-oldest/.test ## Run the tests that depend on OpenTelemetry with the oldest that is supported.
	PYTHONPATH= $(VENV)-oldest/bin/python -m pytest --quiet $(MATRIX_TESTS)

test-newest: $(VENV)-newest/.test ## Run them with the newest, without what contrib has not released for it.
	PYTHONPATH= $(VENV)-newest/bin/python -m pytest --quiet $(MATRIX_TESTS)

chaos: $(VENV)/.test ## Kill and fork five times as many workers as the tests do.
	CHAOS=1 $(BIN)/python -m pytest --quiet --durations 10 tests/integration/test_killed_workers.py tests/integration/test_fork_storm.py

lint: $(VENV)/.test ## Check formatting and style of Python and Rust.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	cargo fmt --check
	cargo clippy --workspace --all-targets --quiet -- --deny warnings

typecheck: $(VENV)/.test ## Check types, and the stub against the native module.
	$(BIN)/mypy src tests examples benchmarks
	$(BIN)/python -m mypy.stubtest otel_perf._core --allowlist tests/stubtest-allowlist.txt

check: lint typecheck test test-oldest test-newest ## All that CI does.

fmt: $(VENV)/.test ## Format Python and Rust.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	cargo fmt

build: $(VENV)/.demo ## Build the native core in release mode into .venv.

build-debug: $(VENV)/.ready ## Build the native core with assertions into .venv.
	@$(BIN)/maturin develop

bench: bench-memory bench-accuracy bench-startup bench-views bench-export bench-observer bench-exit bench-workers bench-spans bench-record ## Run all benchmarks and write benchmarks/results/ and the tables in benchmarks/README.md.
	$(BENCH_VENV)/bin/python -m benchmarks.report

bench-record: $(BENCH_VENV)/.bench ## Nanoseconds per recording call, against stock and others.
	$(BENCH_VENV)/bin/python -m benchmarks.record --json benchmarks/results/record.json

bench-views: $(BENCH_VENV)/.bench ## Milliseconds of setting up 100 views and 200 instruments, against stock.
	$(BENCH_VENV)/bin/python -m benchmarks.views --json benchmarks/results/views.json

bench-workers: $(BENCH_VENV)/.bench ## Scrapes of four workers, first recordings after a fork, two workers at once.
	$(BENCH_VENV)/bin/python -m benchmarks.workers --json benchmarks/results/workers.json

bench-spans: $(BENCH_VENV)/.bench ## Nanoseconds of measuring a span, and of spans that are not sampled.
	$(BENCH_VENV)/bin/python -m benchmarks.spans --json benchmarks/results/spans.json

bench-memory: $(BENCH_VENV)/.bench ## Bytes of state and resident size, against stock.
	$(BENCH_VENV)/bin/python -m benchmarks.memory --json benchmarks/results/memory.json

bench-startup: $(BENCH_ALONE)/.ready ## CPU time of starting an instrumented program, against stock.
	$(BENCH_VENV)/bin/python -m benchmarks.startup --environments $(BENCH_ALONE) --json benchmarks/results/startup.json

bench-export: $(BENCH_VENV)/.bench ## CPU time of scrapes, OTLP requests and looks at 1,000 series, against stock.
	$(BENCH_VENV)/bin/python -m benchmarks.export --json benchmarks/results/export.json

bench-observer: $(BENCH_VENV)/.bench ## What an observer takes from the requests of the application, with a null experiment.
	$(BENCH_VENV)/bin/python -m benchmarks.observer --json benchmarks/results/observer.json

bench-exit: $(BENCH_ALONE)/.ready ## Seconds that the exit is held up by a receiver that does not answer, against stock.
	$(BENCH_VENV)/bin/python -m benchmarks.exit --environments $(BENCH_ALONE) --json benchmarks/results/exit.json

bench-accuracy: $(BENCH_VENV)/.bench ## Percentiles against the exact ones.
	$(BENCH_VENV)/bin/python -m benchmarks.accuracy --json benchmarks/results/accuracy.json

fuzz: tools ## Fuzz attribute bytes and segment validation, FUZZ_SECONDS (60) each; needs nightly Rust and cargo-fuzz.
	@cargo fuzz --version >/dev/null 2>&1 || { echo "make: cargo-fuzz is missing; run: cargo install cargo-fuzz"; exit 2; }
	cd crates/fuzz && cargo +nightly fuzz run --fuzz-dir . attribute_bytes -- -max_total_time=$(FUZZ_SECONDS)
	cd crates/fuzz && cargo +nightly fuzz run --fuzz-dir . segment_validation -- -max_total_time=$(FUZZ_SECONDS)
	@rm -rf /dev/shm/otel_perf-fuzz-*

clean: ## Remove everything that was built.
	rm -rf $(VENV) $(MATRIX:%=$(VENV)-%) $(BENCH_VENV) target
