# `just` lists the recipes. Nothing here is needed to build: each recipe is the command behind it.

_default:
    @just --list

# What CI runs: read-only
check:
    .ci/run

# Rewrites what a tool can put right
fix:
    cargo fmt
    cargo clippy --all-features --all-targets --fix --allow-dirty --allow-staged

# Tests whose name contains FILTER; without one, all
test FILTER="":
    cargo test --all-features {{FILTER}}

# Real processes on a real disk, killed, stopped, cut off, failing, rotten and full; a PART alone:
# kills, pauses, cuts, injections, flips or full. Cuts and full disks need root, failing ones strace
torture PART="" *FLAGS:
    cargo test --release --all-features --test torture -- --ignored --nocapture --test-threads 1 {{PART}} {{FLAGS}}

# Replays one seed of the simulation of the whole router, and prints what happened
sim SEED:
    SIM_SEED={{SEED}} cargo test --release --all-features --test sim one_seed -- --nocapture

# Runs N seeds of the simulation, on two threads
sim-many N="1000":
    SIM_SEEDS={{N}} cargo test --release --all-features --test sim many_seeds -- --nocapture

# Leaves out every clause of the rules in turn: how many seeds until the simulation sees it
sim-mutations N="300":
    SIM_SEEDS={{N}} cargo test --release --all-features --test sim table_of_clauses -- --ignored --nocapture

# Moves N orders from store to store, killed again and again
migrate N="100000":
    MIGRATE_ORDERS={{N}} cargo test --all-features --test it migration_is_killed -- --nocapture

# Benchmarks; the results with their command and machine go into benches/RESULTS.md
bench NAME="":
    cargo bench --all-features {{ if NAME == "" { "" } else { "--bench " + NAME } }}

# The model of the rules in full, and each clause left out; three quarters of an hour
model:
    cargo test --release --all-features --test model -- --include-ignored --nocapture --test-threads 1

# The program that shows what the router is for: three ways to buy from a faulty supplier
demo *FLAGS:
    cargo run --release -- demo {{FLAGS}}

# The documentation, in a browser
doc:
    cargo doc --no-deps --all-features --open

# Licences, advisories and sources of all dependencies; needs cargo-deny
deny:
    cargo deny --all-features check

# What libFuzzer is told by a build on the stable toolchain, of the binary of `tests/fuzz.rs` alone. The command
# itself is built too and is not run: it may lack what libFuzzer has.
sancov := "--cfg fuzzing --cfg fuzzing_libfuzzer -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Cllvm-args=-sanitizer-coverage-stack-depth -Clink-arg=-Wl,--warn-unresolved-symbols"
libfuzzer := "BOLERO_FUZZER=libfuzzer RUSTFLAGS='" + sancov + "' cargo test --target $(rustc --print host-tuple) --profile fuzz --all-features --test fuzz -- --nocapture --exact"

# Fuzzes one target, coverage-guided: `just fuzz posts::an_answer_proves_no_more_than_it_says 10`; needs a C++ compiler
fuzz TARGET MINUTES="10":
    BOLERO_LIBFUZZER_ARGS="target/corpus/{{replace(TARGET, '::', '__')}} tests/fuzz/__fuzz__/{{replace(TARGET, '::', '__')}}/corpus -create_missing_dirs=1 -artifact_prefix=tests/fuzz/__fuzz__/{{replace(TARGET, '::', '__')}}/crashes/ -timeout=10 -print_final_stats=1 -max_total_time=$(({{MINUTES}} * 60))" {{libfuzzer}} {{TARGET}}

# Fuzzes with random bytes alone, all targets or one; needs nothing
fuzz-random MINUTES="1" TARGET="":
    BOLERO_RANDOM_TEST_TIME_MS=$(({{MINUTES}} * 60000)) cargo test --all-features --test fuzz -- {{TARGET}}

# The small types that hold the concurrency, under every interleaving
loom:
    cargo test --test loom -- --nocapture

# Mutants of one file against the unit tests with TESTS in their name: `just mutants src/protocol/listing.rs protocol::listing`; needs cargo-mutants
mutants FILE TESTS:
    cargo mutants --file {{FILE}} -- --lib -- {{TESTS}}
