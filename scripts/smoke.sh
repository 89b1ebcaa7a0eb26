#!/usr/bin/env bash
# Asks the running stack from outside: every replica, NGINX on its three ports, and Consul. One line per
# check.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=lib-consul.sh
source "$REPO_DIR/scripts/lib-consul.sh"

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
    [[ -f $STATE_FILE ]] || die "the stack is down: start it with scripts/up.sh"
    load_settings
    export CONSUL_HTTP_ADDR=$STACK_CONSUL_URL
    unset CONSUL_HTTP_TOKEN
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
    check "NGINX: a frame to port $TCP_PORT is answered done" frame_done 127.0.0.1 "$TCP_PORT"
}

check_consul() {
    check "Consul: $REPLICAS file-server-http pass" passing "$REPLICAS" file-server-http
    check "Consul: $REPLICAS file-server-tcp pass" passing "$REPLICAS" file-server-tcp
    check "Consul: nginx passes" passing 1 nginx
}

# Each sets CHECK_DETAIL to what came instead.
body_is() {
    local body
    body=$(curl -sS -k --max-time 5 "$2" 2>&1) || true
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
    body=$(curl -sS -k --max-time 10 -X POST "$2/stream?size=$1" 2>&1) || true
    CHECK_DETAIL="got \"${body:0:200}\""
    jq -e --argjson n "$1" '.bytes_sent == $n' <<<"$body" >/dev/null 2>&1
}

passing() {
    local count
    count=$(consul_count "$2" passing) || count="no answer from Consul"
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
