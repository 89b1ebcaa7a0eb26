#!/usr/bin/env bash
# Shows the stack on one screen: its processes and their health, what Consul says of each service, and
# to whom NGINX sends. Ends with 0 only when all of it is healthy.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/values.sh"
source "$LIB_DIR/settings.sh"
source "$LIB_DIR/waiting.sh"
source "$LIB_DIR/network.sh"
source "$LIB_DIR/processes.sh"
source "$LIB_DIR/consul.sh"
source "$LIB_DIR/lists.sh"
source "$LIB_DIR/alarm.sh"
source "$LIB_DIR/own-entries.sh"

usage() {
    cat <<'USAGE'
usage: status.sh

Exit code: 0 all healthy, 1 something is not or the stack is down.
environment: RUN_DIR (run)
USAGE
}

FAULTS=0
UPSTREAMS_DIR="$NGINX_DIR/upstreams"
# The most entries in Consul that are shown though they aren't the stack's.
STRANGERS_SHOWN_MAX=20
# Why Consul isn't asked any more: an agent that hangs is waited for once.
CONSUL_FAULT=

main() {
    case ${1:-} in
        '') ;;
        -h | --help) usage && exit 0 ;;
        *) die_usage "unknown argument \"$1\"" ;;
    esac
    if ! stack_is_recorded; then
        say "the stack is down (start it with scripts/up.sh)"
        exit 1
    fi
    load_settings
    use_stack_consul
    CONSUL_TIMEOUT_S=2
    consul_ready || CONSUL_FAULT=$(api_error)
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
    show_process consul consul_answers "$STACK_CONSUL_URL"
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

consul_answers() { [[ -z $CONSUL_FAULT ]]; }

nginx_healthy() { [[ $(http_status "http://127.0.0.1:$HTTP_PORT/health") == 200 ]]; }

# ---------------------------------------------------------------- Consul

show_services() {
    local name strangers=()
    say "" "CONSUL"
    if [[ -n $CONSUL_FAULT ]]; then
        row 1 consul - "$CONSUL_FAULT"
        return 0
    fi
    for name in file-server-http file-server-tcp nginx "$ALARM_SERVICE"; do
        if consul_api GET "/v1/health/service/$name"; then
            show_instances "$name"
        else
            row 1 "$name" - "$(api_error)"
        fi
    done
    if ((${#strangers[@]})); then show_strangers; fi
}

# Of the service NAME in API_BODY: the stack's own; others are added to strangers of show_services.
show_instances() {
    local id status own rest
    own=$(own_ids "$1")
    for id in $own; do
        status=$(jq -r --arg id "$id" "$JQ_STATUS" <<<"$API_BODY" 2>/dev/null) || status=unknown
        row "$([[ $status == passing ]] && echo 0 || echo 1)" "$id" "" "$status"
    done
    mapfile -t rest < <(jq -r --arg own "$own" '($own | split("\n")) as $own |
        .[].Service.ID | strings | select(. as $id | all($own[]; . != $id)) | @json' <<<"$API_BODY" 2>/dev/null)
    strangers+=("${rest[@]}")
}

# shellcheck disable=SC2016  # variables of jq
JQ_STATUS='[.[] | select(.Service.ID == $id) | .Checks[].Status] | if length == 0 then "not registered"
    elif all(. == "passing") then "passing" elif any(. == "critical") then "critical" else "warning" end'

# No fault of the stack: anybody may register, and NGINX gets none of them.
show_strangers() {
    say "" "NOT THE STACK'S (${#strangers[@]} entries in Consul under its services' names)"
    printf '  %s\n' "${strangers[@]:0:STRANGERS_SHOWN_MAX}" | printable
}

# Nothing that a terminal would obey.
printable() { LC_ALL=C tr -c '\n -~' '?'; }

# ---------------------------------------------------------------- NGINX

show_upstreams() {
    local plane servers age fault
    say "" "NGINX UPSTREAMS"
    for plane in control data; do
        mapfile -t servers < <(sed -n 's/^server \([^ ;]*\).*/\1/p' "$(list_in_force "$plane")" 2>/dev/null)
        age=$(list_look_age "$plane")
        row "$((${#servers[@]} != REPLICAS))" "$plane" "${#servers[@]}" "${servers[*]}${age:+ (compared with Consul $age s ago)}"
        if fault=$(list_stands_still "$plane" | printable) && [[ -n $fault ]]; then row 1 "$plane" - "$fault"; fi
        if [[ -s $UPSTREAMS_DIR/$plane.refused ]]; then show_refused "$plane"; fi
    done
}

# Likewise no fault of the stack.
show_refused() {
    printf '  %s: %d entries of Consul are refused\n' "$1" "$(wc -l <"$UPSTREAMS_DIR/$1.refused")"
    head -n "$STRANGERS_SHOWN_MAX" "$UPSTREAMS_DIR/$1.refused" | sed 's/\t/: /; s/^/    /' | printable
}

main "$@"
