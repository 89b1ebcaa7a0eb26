#!/usr/bin/env bash
# Plays the simulations with many seeds each: transfers, that is random files, ranges, faults and orders of completion over
# a kernel of random outcomes (daemon/src/dataplane/engine/tests), and whole connections, that is requests, uploads, clients
# with and without manners, and a worker over a platform of random outcomes (daemon/src/dataplane/simulation). Prints how
# often what happened. A seed that fails is named; --seed plays it alone.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: scripts/simulate.sh [-h] [--seed N | SEEDS]
  SEEDS     how many seeds, from 0 on (default 100000)
  --seed N  this one alone
USAGE
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Many times what 100,000 seeds take; a transfer that never ended would be seen by its count of calls before.
readonly TIME_MAX=30m
case "${1:-}" in
    -h | --help) usage; exit 0 ;;
    --seed) [[ ${2:-} =~ ^[0-9]+$ && $# == 2 ]] || { usage >&2; exit 2; }; export STREAMD_SIMULATION_SEED=$2 ;;
    *)
        [[ ${1:-100000} =~ ^[0-9]+$ && $# -le 1 ]] || { usage >&2; exit 2; }
        export STREAMD_SIMULATION_SEEDS=${1:-100000}
        ;;
esac

# Linked as a whole it would take minutes to build, and plays no faster.
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
cargo test --release -p streamd --lib --no-run
timeout "$TIME_MAX" cargo test --release -p streamd --lib simulation:: -- --nocapture
