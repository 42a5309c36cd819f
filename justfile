# The commands of a working day. `just` alone lists them.

_default:
    @just --list

# From nothing to a running vault.
up *ARGS:
    cargo run --release -- up {{ARGS}}

# Every test.
test:
    cargo test --workspace --locked

# What must be clean before a commit.
check:
    cargo fmt --all --check
    cargo fmt --manifest-path fuzz/Cargo.toml --check
    cargo fmt --manifest-path tests/interop/vaultrs/Cargo.toml --check
    cargo clippy --workspace --all-targets --locked -- -D warnings
    cargo clippy --manifest-path fuzz/Cargo.toml --target-dir target --locked -- -D warnings

# The whole of CI, as it runs on a submission.
ci:
    .ci/run

# One step of CI by name, for example `just step interop`.
step NAME:
    .ci/run {{NAME}}

# The documentation, warnings refused.
doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --locked

# Kill the server under load, CYCLES times.
kill-loop CYCLES="1000":
    KILL_CYCLES={{CYCLES}} .ci/run kill

# Rotate transit keys under 32 clients for SECONDS, then kill the server KILLS times while it encrypts.
transit-loop SECONDS="60" KILLS="100":
    TRANSIT_SECONDS={{SECONDS}} TRANSIT_KILLS={{KILLS}} .ci/run transit

# The real sops, which `.ci/run interop` then runs against the server. Needs Go, and minutes.
sops:
    GOBIN=$PWD/target/ci/sops go install github.com/getsops/sops/v3/cmd/sops@v3.13.3

# End a vault's life at every operation on its disk, and fail every call; counts printed.
crash:
    KISTA_CRASH_LONG=1 cargo test -p kista --lib --locked pipeline::crash -- --nocapture --test-threads 1

# Look for one order of everything that clients saw, over ROUNDS kills.
linear ROUNDS="200":
    LINEAR_ROUNDS={{ROUNDS}} .ci/run linear

# Cut the power under load, CUTS times, on a file system of its own; needs root.
powercut CUTS="200":
    POWER_CUTS={{CUTS}} .ci/run power_cut

# Fuzz one target for SECONDS seconds on stable.
fuzz TARGET SECONDS="600":
    cd fuzz && cargo fuzz run -s none {{TARGET}} -- -max_total_time={{SECONDS}}

# Minutes of processor time on each fuzz target, or on those named (docs/SECURITY-TESTING.md).
fuzz-all MINUTES="10" *TARGETS:
    python3 fuzz/minutes.py {{MINUTES}} {{TARGETS}}

# The benches behind docs/PERFORMANCE.md.
bench:
    cargo bench --locked

# Ten times as many clients as give the peak, and more (docs/SECURITY-TESTING.md).
overload:
    ONLY=overload cargo bench --locked -p kista --bench http

# An honest client beside attackers (docs/SECURITY-TESTING.md).
hostile:
    ONLY=hostile cargo bench --locked -p kista --bench http

# Builds without features, with each, and with all.
features:
    cargo check -p kista --locked --no-default-features
    cargo check -p kista --locked --features client
    cargo check -p kista --locked --all-features

# Every bit of every file of a small store, its anchor and its backup changed, every length, every record
# moved; counts printed.
damage:
    KISTA_DAMAGE_LONG=1 KISTA_DAMAGE_STEP=1 cargo test -p kista --lib --locked -- \
        vault::damage backup::damage storage::crash_tests --nocapture --test-threads 1

# Crash random lives of a store with an anchor, CRASHES times: no false alarm; counts printed.
anchor-crashes CRASHES="1000":
    KISTA_ANCHOR_CRASHES={{CRASHES}} cargo test -p kista --lib --locked -- vault::anchor_tests::crashes --nocapture

# What may come in, what it may do, and what is known against it (docs/DEPENDENCIES.md).
deny:
    .ci/run deny

# The release binary, the same bytes in whatever folder it is built.
release:
    .ci/release

# What the release binary is made of, as CycloneDX: target/sbom/kista.cdx.json.
sbom:
    .ci/run release

# Build the commit twice, in two folders, and compare the binaries; ten minutes.
reproduce:
    .ci/reproduce

# Change one thing in the code of FOLDER at a time, each K-th (SHARD 0/K) of all there are, and see whether TESTS
# of the library notice. Needs `cargo install --locked cargo-mutants`.
mutants FOLDER="gate" SHARD="0/7" TESTS=(FOLDER + "::"):
    CARGO_INCREMENTAL=1 CARGO_PROFILE_DEV_DEBUG=false cargo mutants --package kista --file 'src/{{FOLDER}}/**/*.rs' \
        --sharding round-robin --shard {{SHARD}} --output target/mutants --cargo-arg=--lib -- -- {{TESTS}}
