#!/usr/bin/env bash
# Asks the running stack from outside: every replica, NGINX on its three ports, and Consul. One line per
# check.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/checks.sh"
source "$LIB_DIR/values.sh"
source "$LIB_DIR/settings.sh"
source "$LIB_DIR/network.sh"
source "$LIB_DIR/waiting.sh"
source "$LIB_DIR/consul.sh"
source "$LIB_DIR/alarm.sh"
source "$LIB_DIR/own-entries.sh"

usage() {
    cat <<'USAGE'
usage: smoke.sh

Exit code: 0 all checks passed, 1 one failed or the stack is down.
environment: RUN_DIR (run)
USAGE
}

main() {
    case ${1:-} in
        '') ;;
        -h | --help) usage && exit 0 ;;
        *) die_usage "unknown argument \"$1\"" ;;
    esac
    stack_is_recorded || die "the stack is down: start it with scripts/up.sh"
    load_settings
    use_stack_consul
    check_replicas
    check_nginx
    check_consul
    check_summary
}

check_replicas() {
    local i
    for ((i = 1; i <= REPLICAS; i++)); do
        check "replica $i: GET /health is OK" body_is OK "http://127.0.0.$i:$CONTROL_PORT/health"
    done
}

check_nginx() {
    local http="http://localhost:$HTTP_PORT" https="https://localhost:$HTTPS_PORT"
    check "NGINX: GET $http/health is OK" body_is OK "$http/health"
    check "NGINX: GET $https/health is OK" body_is OK "$https/health"
    check "NGINX: POST $http/stream?size=169 sends 169 bytes" stream_sends 169 "$http"
    check "NGINX: POST $https/stream?size=169 sends 169 bytes" stream_sends 169 "$https"
    check "NGINX: any other path is 404" status_is 404 "$http/metrics"
    check "NGINX: a frame to port $TCP_PORT is answered done" frame_done "$(tcp_host)" "$TCP_PORT"
}

check_consul() {
    check "Consul: $REPLICAS file-server-http pass" passing "$REPLICAS" file-server-http
    check "Consul: $REPLICAS file-server-tcp pass" passing "$REPLICAS" file-server-tcp
    check "Consul: nginx passes" passing 1 nginx
}

# Each sets CHECK_DETAIL to what came instead.
body_is() {
    local body
    body=$(direct_curl -sS -k --max-time 5 "$2" 2>&1) || true
    CHECK_DETAIL="got \"${body:0:200}\""
    [[ $body == "$1" ]]
}

status_is() {
    local status
    status=$(http_status "$2")
    CHECK_DETAIL="got status $status"
    [[ $status == "$1" ]]
}

stream_sends() {
    local body
    body=$(direct_curl -sS -k --max-time 10 -X POST "$2/stream?size=$1" 2>&1) || true
    CHECK_DETAIL="got \"${body:0:200}\""
    jq -e --argjson n "$1" '.bytes_sent == $n' <<<"$body" >/dev/null 2>&1
}

passing() {
    local count
    count=$(own_that_pass "$2") || count="no answer from Consul"
    CHECK_DETAIL="got $count"
    [[ $count == "$1" ]]
}

# One frame: 8 bytes little-endian size, then that many bytes.
frame_done() {
    local answer
    # shellcheck disable=SC2016  # expanded by the inner shell
    answer=$(timeout 5 bash -c 'exec 3<>"/dev/tcp/$1/$2"; printf "\5\0\0\0\0\0\0\0hello" >&3; head -c 4 <&3' \
        _ "$1" "$2" 2>&1) || true
    CHECK_DETAIL="got \"${answer:0:200}\""
    [[ $answer == "done" ]]
}

main "$@"
