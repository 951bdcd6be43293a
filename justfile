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

# Benchmarks; the results with their command and machine go into benches/RESULTS.md
bench NAME="":
    cargo bench --all-features {{ if NAME == "" { "" } else { "--bench " + NAME } }}

# The model of the rules in full, and each clause left out; minutes
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
