#!/usr/bin/env bash
# Ends the stack that up.sh started: NGINX finishes its requests, the registrations leave Consul, the
# replicas drain, the agent ends. What doesn't end in time is killed. Only processes which up.sh
# recorded are touched. Running it again does nothing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/waiting.sh"
source "$LIB_DIR/processes.sh"
source "$LIB_DIR/lock.sh"
source "$LIB_DIR/made.sh"

usage() {
    cat <<'USAGE'
usage: down.sh [--wipe]

  --wipe  also remove what up.sh made in RUN_DIR (its stack.made names that): logs, Consul's data, NGINX's
          configuration, the certificate, the sample file; other files stay

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
    if ! is_stack_dir; then
        say "nothing runs: up.sh has started no stack in $RUN_DIR"
        return 0
    fi
    lock_stack
    stop nginx-upstreams 10
    stop nginx "$NGINX_SECONDS" QUIT
    stop 'register-*' "$REGISTRATION_SECONDS"
    stop 'replica-*' "$REPLICA_SECONDS"
    stop consul "$CONSUL_SECONDS"
    rm -f "$STATE_FILE"
    if ((WIPE)); then remove_made; fi
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

main "$@"
