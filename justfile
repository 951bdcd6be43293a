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

# Replays one seed of the simulation of the whole router, and prints what happened
sim SEED:
    SIM_SEED={{SEED}} cargo test --release --all-features --test sim one_seed -- --nocapture

# Runs N seeds of the simulation, on two threads
sim-many N="1000":
    SIM_SEEDS={{N}} cargo test --release --all-features --test sim many_seeds -- --nocapture

# Leaves out every clause of the rules in turn: how many seeds until the simulation sees it
sim-mutations N="300":
    SIM_SEEDS={{N}} cargo test --release --all-features --test sim table_of_clauses -- --ignored --nocapture

# Benchmarks; the results with their command and machine go into benches/RESULTS.md
bench NAME="":
    cargo bench --all-features {{ if NAME == "" { "" } else { "--bench " + NAME } }}

# The program that shows what the router is for: three ways to buy from a faulty supplier
demo *FLAGS:
    cargo run --release -- demo {{FLAGS}}

# The documentation, in a browser
doc:
    cargo doc --no-deps --all-features --open

# Licences, advisories and sources of all dependencies; needs cargo-deny
deny:
    cargo deny --all-features check
