#!/usr/bin/env bash
# Shows the stack on one screen: its processes and their health, what Consul says of each service, and
# to whom NGINX sends. Ends with 0 only when all of it is healthy.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=lib-consul.sh
source "$REPO_DIR/scripts/lib-consul.sh"

usage() {
    cat <<'USAGE'
usage: status.sh

Exit code: 0 all healthy, 1 something is not or the stack is down.
environment: RUN_DIR (run)
USAGE
}

FAULTS=0

main() {
    case ${1:-} in
        '') ;;
        -h | --help) usage && exit 0 ;;
        *) die_usage "unknown argument \"$1\"" ;;
    esac
    if [[ ! -f $STATE_FILE ]]; then
        say "the stack is down (start it with scripts/up.sh)"
        exit 1
    fi
    load_settings
    export CONSUL_HTTP_ADDR=$STACK_CONSUL_URL
    unset CONSUL_HTTP_TOKEN
    show_processes
    show_services
    show_upstreams
    if ((FAULTS)); then
        say "" "$FAULTS faults; scripts/up.sh starts again what died, logs are in $LOG_DIR"
        exit 1
    fi
    say "" "all healthy"
}

# row HEALTHY COLUMN...: HEALTHY is 0 when it is.
row() {
    local status=$1
    shift
    if ((status != 0)); then FAULTS=$((FAULTS + 1)); fi
    printf '  %-44s %-8s %s\n' "$@"
}

# ---------------------------------------------------------------- processes

show_processes() {
    local i
    say "PROCESSES"
    show_process consul consul_ready "$STACK_CONSUL_URL"
    for ((i = 1; i <= REPLICAS; i++)); do
        show_process "replica-$i" "health_ok 127.0.0.$i $CONTROL_PORT" "127.0.0.$i:$DATA_PORT, control $CONTROL_PORT"
    done
    show_process nginx nginx_healthy "ports $HTTP_PORT, $HTTPS_PORT, $TCP_PORT"
    show_process nginx-upstreams true
    for ((i = 1; i <= REPLICAS; i++)); do
        show_process "register-replica-$i" true
    done
    show_process register-nginx true
}

# show_process NAME HEALTH_COMMAND [NOTE]
show_process() {
    local name=$1 health=$2 note=${3:-} pid
    if ! pid=$(process_pid "$name"); then
        row 1 "$name" - "not running"
    elif ! $health; then
        row 1 "$name" "$pid" "unhealthy ${note:+($note)}"
    else
        row 0 "$name" "$pid" "healthy ${note:+($note)}"
    fi
}

nginx_healthy() { [[ $(http_status "http://127.0.0.1:$HTTP_PORT/health") == 200 ]]; }

# ---------------------------------------------------------------- Consul

show_services() {
    local name count
    say "" "CONSUL"
    for name in file-server-http file-server-tcp nginx; do
        if ! consul_api GET "/v1/health/service/$name"; then
            row 1 "$name" - "$(api_error)"
            continue
        fi
        show_instances
        count=$(jq length <<<"$API_BODY")
        [[ $count == "$(expected "$name")" ]] || row 1 "$name" - "$count registered, $(expected "$name") expected"
    done
}

expected() { if [[ $1 == nginx ]]; then printf 1; else printf '%s' "$REPLICAS"; fi; }

show_instances() {
    local id status
    while read -r id status; do
        row "$([[ $status == passing ]] && echo 0 || echo 1)" "$id" "" "$status"
    done < <(jq -r '.[] | "\(.Service.ID) \(
        [.Checks[].Status] | if all(. == "passing") then "passing"
                             elif any(. == "critical") then "critical" else "warning" end)"' <<<"$API_BODY")
}

# ---------------------------------------------------------------- NGINX

show_upstreams() {
    local plane servers
    say "" "NGINX UPSTREAMS"
    for plane in control data; do
        mapfile -t servers < <(sed -n 's/^server \([^ ;]*\).*/\1/p' "$NGINX_DIR/upstreams/$plane.conf" 2>/dev/null)
        row "$((${#servers[@]} != REPLICAS))" "$plane" "${#servers[@]}" "${servers[*]}"
    done
}

main "$@"
