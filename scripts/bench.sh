#!/usr/bin/env bash
# Runs the standard set of the bench on streamd and its peers and writes bench-results/<date>.json and .html.
# Where it may (root, loop devices), it sets up a slow device for the mixed scenarios and removes it again.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'USAGE'
usage: bench.sh quick|full [--host-network] [ARGUMENT...]

  quick  one short round of streamd, nginx and the ceiling: under 3 minutes
  full   five rounds of all peers that are installed (scripts/install-peers.sh); after 25 minutes no further
         measurement is begun

  --host-network  the host's loopback, with the host's congestion control. Else root measures in a network
                  namespace of its own, with reno: BBR, where it is the host's default, would pace loopback by timers

Further arguments go to `stream-bench compare`, for example --only pull. The server runs on core 0 and the client
on core 1, where there are two. Nothing else should run meanwhile.
USAGE
}

RESULTS_DIR=$REPO_DIR/bench-results
WORK_DIR=$RESULTS_DIR/work
SLOW_NAME=slow
SLOW_DIR=$WORK_DIR/root/$SLOW_NAME

main() {
    local set=${1:-}
    case $set in
        quick | full) shift ;;
        -h | --help) usage && exit 0 ;;
        *) usage >&2 && exit 2 ;;
    esac
    if [[ ${1:-} == --host-network ]]; then
        OWN_NETWORK=
        shift
    fi
    local peers=streamd,streamd-again,nginx,h2o,lighttpd,caddy,ceiling
    [[ $set == full ]] || peers=streamd,streamd-again,nginx,ceiling
    cargo build --release --locked --workspace
    mkdir -p "$WORK_DIR/root"
    local arguments=(--set "$set" --peers "$peers" --directory "$WORK_DIR")
    if (($(nproc) > 1)); then arguments+=(--server-cores 0 --client-cores 1); fi
    trap remove_slow_device EXIT
    if make_slow_device; then arguments+=(--slow "$SLOW_NAME" --slow-cgroup "$SLOW_PROCS"); fi
    local name
    name=$RESULTS_DIR/$(date -u +%Y-%m-%dT%H%M%SZ)
    # streamd that failed at something makes the run fail, but not lose what the others did.
    local status=0
    local command=("$REPO_DIR/target/release/stream-bench" compare "${arguments[@]}" --json "$name.json" "$@")
    if own_network_works; then in_own_network "${command[@]}" || status=$?; else "${command[@]}" || status=$?; fi
    [[ -s $name.json ]] || exit "$status"
    "$REPO_DIR/target/release/stream-bench" report "$name.json" --output "$name.html"
    say "results: $name.json"
    say "page:    $name.html"
    return "$status"
}

# Every namespace may choose reno; cubic, which loopback can't tell from it, only where the host allows it
# (net.ipv4.tcp_allowed_congestion_control).
OWN_NETWORK=yes
in_own_network() {
    unshare --net bash -c '
        ip link set lo up && echo reno >/proc/sys/net/ipv4/tcp_congestion_control && exec "$@"
    ' bash "$@"
}

own_network_works() {
    [[ -n $OWN_NETWORK ]] || return 1
    local reason
    if reason=$(in_own_network true 2>&1); then return 0; fi
    warn "the host's network and congestion control are used: $(tail -n 1 <<<"$reason")"
    return 1
}

SLOW_PROCS=
make_slow_device() {
    local log=$RESULTS_DIR/slow-device.log
    if ! "$REPO_DIR/scripts/slow-device.sh" up --size 3GiB "$SLOW_DIR" >"$log" 2>&1; then
        warn "no slow device, so no mixed scenarios: $(tail -n 1 "$log")"
        return 1
    fi
    SLOW_PROCS=$(sed -n 's/^procs: //p' "$log")
    say "slow device: $(grep -m 1 'MiB/s' "$log" || true)"
}

remove_slow_device() {
    if [[ -n $SLOW_PROCS ]]; then "$REPO_DIR/scripts/slow-device.sh" down "$SLOW_DIR" >/dev/null; fi
}

main "$@"
