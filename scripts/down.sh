#!/usr/bin/env bash
# Ends the stack that up.sh started: NGINX finishes its requests, the registrations leave Consul, the
# replicas drain, the agent ends. What doesn't end in time is killed. Only processes which up.sh
# recorded are touched. Running it again does nothing.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'USAGE'
usage: down.sh [--wipe]

  --wipe  also remove the run/ folder: logs, certificate, Consul's data, the served sample files

environment: RUN_DIR (run)
USAGE
}

NGINX_SECONDS=10
# A watch sets maintenance, waits up to DRAIN_SECONDS_MAX (15) and deregisters; an agent that hangs costs it more.
REGISTRATION_SECONDS=30
# drain_timeout_ms is 30 s; streamd ends by itself shortly after.
REPLICA_SECONDS=35
CONSUL_SECONDS=10

WIPE=0

main() {
    parse_arguments "$@"
    if [[ ! -d $RUN_DIR ]]; then
        say "nothing runs: there is no $RUN_DIR"
        return 0
    fi
    lock_stack
    stop nginx-upstreams 10
    stop nginx "$NGINX_SECONDS" QUIT
    stop 'register-*' "$REGISTRATION_SECONDS"
    stop 'replica-*' "$REPLICA_SECONDS"
    stop consul "$CONSUL_SECONDS"
    rm -f "$STATE_FILE"
    if ((WIPE)); then wipe; fi
    say "the stack is down"
}

parse_arguments() {
    while (($#)); do
        case $1 in
            -h | --help) usage && exit 0 ;;
            --wipe) WIPE=1 ;;
            *) die_usage "unknown argument \"$1\"" ;;
        esac
        shift
    done
}

# stop PATTERN SECONDS [SIGNAL]
stop() {
    local names
    mapfile -t names < <(process_names "$1")
    ((${#names[@]})) || return 0
    say "stopping ${names[*]}"
    stop_processes "${3:-TERM}" "$2" "${names[@]}"
}

# Only the names which the stack makes: RUN_DIR may be a folder that holds more than that.
wipe() {
    rm -rf -- "$LOG_DIR" "$PID_DIR" "$NGINX_DIR" "$RUN_DIR"/{consul,tls,www,streamd.toml,lock} "$RUN_DIR"/streamd-[0-9]*.toml
    rmdir -- "$RUN_DIR" 2>/dev/null || warn "$RUN_DIR holds other files: left in place"
    say "removed the state in $RUN_DIR"
}

main "$@"
