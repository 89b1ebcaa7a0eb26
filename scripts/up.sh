#!/usr/bin/env bash
# Brings up the whole stack on this machine: a Consul agent, streamd replicas on 127.0.0.1 and up, their
# registration, NGINX in front, and then asks all of them from outside (smoke.sh). Run again, it leaves
# what runs alone and starts again what died. All state and logs are under run/.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=lib-consul.sh
source "$REPO_DIR/scripts/lib-consul.sh"

usage() {
    cat <<'USAGE'
usage: up.sh [--no-smoke]

  --no-smoke  end when everything runs, without the smoke test

environment (default):
  REPLICAS (3), ROOT_DIR (run/www), STREAMD_BIN (built by cargo), RUN_DIR (run)
  HTTP_PORT, HTTPS_PORT (80 and 443 as root, else 8000 and 8443), TCP_PORT (9080)
  DATA_PORT (8080), CONTROL_PORT (8081)
  CONSUL_HTTP_PORT (8500), CONSUL_DNS_PORT (8600), CONSUL_SERVER_PORT (8300), CONSUL_SERF_PORT (8301)
USAGE
}

# Consul elects itself within 2 s; a busy machine takes longer.
CONSUL_START_SECONDS=30
STREAMD_START_SECONDS=20
NGINX_START_SECONDS=10
# Consul makes the first check at a random point of the 10 s interval.
PASSING_SECONDS=30

SMOKE=1

main() {
    parse_arguments "$@"
    lock_stack
    trap 'say_what_remains $?' EXIT
    load_settings
    check_paths
    "$REPO_DIR/scripts/install-deps.sh" --run-only 9>&-
    build_streamd
    choose_nginx_ports
    record_settings
    # The stack's own agent, whatever the caller's environment names.
    export CONSUL_HTTP_ADDR=$STACK_CONSUL_URL
    unset CONSUL_HTTP_TOKEN
    start_consul
    start_replicas
    stop_surplus_replicas
    start_registrations
    start_nginx
    wait_until_passing
    if ((SMOKE)); then
        "$REPO_DIR/scripts/smoke.sh" || die "the stack runs, but the smoke test failed: logs are in $LOG_DIR"
    fi
    print_tour
}

parse_arguments() {
    while (($#)); do
        case $1 in
            -h | --help) usage && exit 0 ;;
            --no-smoke) SMOKE=0 ;;
            *) die_usage "unknown argument \"$1\"" ;;
        esac
        shift
    done
}

# These paths are written into NGINX's configuration between double quotes.
check_paths() {
    [[ $RUN_DIR != *[\"\'\$\\\;\{\}]* ]] || die "RUN_DIR is $RUN_DIR: NGINX can't be given such a path; set another"
    ROOT_DIR=$(realpath -m "$ROOT_DIR")
    if [[ $ROOT_DIR == "$RUN_DIR/www" && ! -e $ROOT_DIR/hello.txt ]]; then
        mkdir -p "$ROOT_DIR"
        printf 'hello from streamd\n' >"$ROOT_DIR/hello.txt"
    fi
    [[ -d $ROOT_DIR ]] || die "ROOT_DIR is $ROOT_DIR: there is no such directory"
}

# ---------------------------------------------------------------- streamd

build_streamd() {
    STREAMD=$(streamd_path)
    if [[ -n ${STREAMD_BIN:-} ]]; then
        STREAMD=$(realpath -m "$STREAMD_BIN")
        [[ -x $STREAMD ]] || die "STREAMD_BIN is $STREAMD_BIN: there is no such program"
        return 0
    fi
    command -v cargo >/dev/null ||
        die "cargo is missing: install a Rust toolchain (rustup), or set STREAMD_BIN to a streamd"
    say "streamd: building (log: $LOG_DIR/build.log)"
    (cd "$REPO_DIR" && cargo build --release -p streamd >"$LOG_DIR/build.log" 2>&1 9>&-) ||
        die_with_log "streamd could not be built" "$LOG_DIR/build.log"
}

start_replicas() {
    local i config="$RUN_DIR/streamd.toml"
    # A file of its own, so that one in /etc/streamd doesn't change the stack.
    [[ -e $config ]] || printf '# Options of all replicas of this stack that have no streamd-N.toml of their own.\n' >"$config"
    say "streamd: $REPLICAS replicas of $STREAMD"
    for ((i = 1; i <= REPLICAS; i++)); do
        require_free "replica-$i" "127.0.0.$i" "$DATA_PORT" DATA_PORT
        require_free "replica-$i" "127.0.0.$i" "$CONTROL_PORT" CONTROL_PORT
        start_replica "$i" "$STREAMD"
    done
    for ((i = 1; i <= REPLICAS; i++)); do
        await "replica-$i" "$STREAMD_START_SECONDS" "answer OK to http://127.0.0.$i:$CONTROL_PORT/health" \
            health_ok "127.0.0.$i" "$CONTROL_PORT"
    done
}

# After REPLICAS was lowered. The registrations end first, so that the replicas drain unasked.
stop_surplus_replicas() {
    local name surplus=()
    for name in $(process_names 'replica-*'); do
        ((${name#replica-} <= REPLICAS)) || surplus+=("$name")
    done
    ((${#surplus[@]})) || return 0
    say "  stopping ${surplus[*]}: REPLICAS is $REPLICAS now"
    stop_processes TERM 30 "${surplus[@]/#/register-}"
    stop_processes TERM 40 "${surplus[@]}"
}

# ---------------------------------------------------------------- Consul

start_consul() {
    local consul flags=()
    consul=$(consul_path) || die "consul $CONSUL_VERSION_MIN or newer is missing: run scripts/install-deps.sh"
    # Newer servers open a second gRPC port, which nothing here uses; older ones don't know the flag.
    if version_at_least "$(consul_version "$consul")" 1.14; then flags=(-grpc-tls-port=-1); fi
    say "consul: $(consul_version "$consul") ($consul)"
    require_free consul 127.0.0.1 "$CONSUL_HTTP_PORT" CONSUL_HTTP_PORT
    require_free consul 127.0.0.1 "$CONSUL_DNS_PORT" CONSUL_DNS_PORT
    require_free consul 127.0.0.1 "$CONSUL_SERVER_PORT" CONSUL_SERVER_PORT
    require_free consul 127.0.0.1 "$CONSUL_SERF_PORT" CONSUL_SERF_PORT
    ensure_process consul "$consul" agent "-config-file=$REPO_DIR/consul.hcl" "-data-dir=$RUN_DIR/consul" -ui \
        "-http-port=$CONSUL_HTTP_PORT" "-dns-port=$CONSUL_DNS_PORT" \
        "-server-port=$CONSUL_SERVER_PORT" "-serf-lan-port=$CONSUL_SERF_PORT" "${flags[@]}"
    await consul "$CONSUL_START_SECONDS" "elect itself and answer at $STACK_CONSUL_URL" consul_ready
}

start_registrations() {
    local i
    say "registration:"
    for ((i = 1; i <= REPLICAS; i++)); do
        start_registration "$i"
    done
}

wait_until_passing() {
    local service count
    say "waiting for Consul's checks"
    for service in file-server-http file-server-tcp nginx; do
        count=$REPLICAS
        [[ $service != nginx ]] || count=1
        wait_for "$PASSING_SECONDS" consul_has "$count" "$service" passing ||
            die "Consul shows $(consul_count "$service" passing) of $count $service passing after $PASSING_SECONDS s: see scripts/status.sh and the logs in $LOG_DIR"
    done
}

# ---------------------------------------------------------------- NGINX

# Sets HTTP_PORT and HTTPS_PORT where the caller has not: what the running NGINX has, else the standard
# ports, else the high ones.
choose_nginx_ports() {
    choose_port HTTP_PORT 80 8000
    choose_port HTTPS_PORT 443 8443
    local name
    for name in HTTP_PORT HTTPS_PORT TCP_PORT; do
        require_free nginx 127.0.0.1 "${!name}" "$name"
    done
}

choose_port() {
    local name=$1 standard=$2 high=$3
    [[ -z ${!name:-} ]] || return 0
    if ((EUID != 0)); then
        say "nginx: $name is $high (port $standard is root's)"
        printf -v "$name" '%s' "$high"
    elif port_answers 127.0.0.1 "$standard"; then
        say "nginx: $name is $high (port $standard is taken by another process)"
        printf -v "$name" '%s' "$high"
    else
        printf -v "$name" '%s' "$standard"
    fi
}

start_nginx() {
    say "nginx: $(command -v nginx)"
    "$REPO_DIR/scripts/tls-cert.sh" "$RUN_DIR/tls" >"$LOG_DIR/tls-cert.log" 2>&1 ||
        die_with_log "no certificate for HTTPS" "$LOG_DIR/tls-cert.log"
    mkdir -p "$NGINX_DIR/temp" "$NGINX_DIR/upstreams"
    render_nginx_conf >"$NGINX_DIR/nginx.conf.new"
    fill_upstreams
    test_nginx_conf
    local changed=0
    cmp -s "$NGINX_DIR/nginx.conf.new" "$NGINX_DIR/nginx.conf" || changed=1
    mv "$NGINX_DIR/nginx.conf.new" "$NGINX_DIR/nginx.conf"
    ensure_process nginx "$(command -v nginx)" -p "$NGINX_DIR" -c "$NGINX_DIR/nginx.conf" -g 'daemon off;'
    if ((changed && !STARTED)); then
        say "  nginx.conf has changed: reloading it"
        nginx -s reload -p "$NGINX_DIR" -c "$NGINX_DIR/nginx.conf" 2>>"$LOG_DIR/nginx.log"
    fi
    await nginx "$NGINX_START_SECONDS" "answer at http://127.0.0.1:$HTTP_PORT/health" nginx_answers
    ensure_process nginx-upstreams "$REPO_DIR/scripts/nginx-upstreams.sh"
    ensure_process register-nginx "$REPO_DIR/scripts/consul-register.sh" --watch nginx 127.0.0.1 "$HTTP_PORT"
}

nginx_answers() { [[ $(http_status "http://127.0.0.1:$HTTP_PORT/health") == 200 ]]; }

# NGINX doesn't start without a server in each list.
fill_upstreams() {
    local log_file="$LOG_DIR/nginx-upstreams-once.log" service
    for service in file-server-http file-server-tcp; do
        wait_for "$PASSING_SECONDS" some_pass "$service" ||
            die_with_log "no $service passed Consul's checks within $PASSING_SECONDS s" "$LOG_DIR/register-replica-1.log"
    done
    "$REPO_DIR/scripts/nginx-upstreams.sh" --once >"$log_file" 2>&1 ||
        die_with_log "NGINX's upstream lists could not be written" "$log_file"
}

some_pass() { [[ $(consul_count "$1" passing) =~ ^[1-9] ]]; }

test_nginx_conf() {
    nginx -t -p "$NGINX_DIR" -c "$NGINX_DIR/nginx.conf.new" >"$LOG_DIR/nginx-test.log" 2>&1 ||
        die_with_log "NGINX refuses the configuration rendered from nginx.conf" "$LOG_DIR/nginx-test.log"
}

# Prints nginx.conf with the marked lines replaced. A marker without a value here is a fault.
render_nginx_conf() {
    local line name
    declare -A values
    nginx_values
    while IFS= read -r line; do
        if [[ $line =~ ^(\ *).*\#\ up\.sh:\ ([A-Z_]+)$ ]]; then
            name=${BASH_REMATCH[2]}
            [[ -n ${values[$name]+set} ]] || die "nginx.conf has a marker up.sh doesn't know: $name"
            printf '%s%s\n' "${BASH_REMATCH[1]}" "${values[$name]}"
        else
            printf '%s\n' "$line"
        fi
    done <"$REPO_DIR/nginx.conf"
}

# shellcheck disable=SC2154  # values belongs to render_nginx_conf
nginx_values() {
    values[LOAD_MODULE]=$(stream_module)
    values[PID]="pid \"$NGINX_DIR/nginx.pid\";"
    values[ERROR_LOG]="error_log \"$LOG_DIR/nginx.log\" notice;"
    values[ACCESS_LOG]="access_log \"$LOG_DIR/nginx-access.log\" streamd;"
    values[STREAM_LOG]="access_log \"$LOG_DIR/nginx-stream.log\" streamd;"
    values[TEMP_PATHS]=$(temp_paths)
    values[LISTEN_HTTP]=$(listen "$HTTP_PORT" '')
    values[LISTEN_HTTPS]=$(listen "$HTTPS_PORT" ' ssl')
    values[LISTEN_TCP]=$(listen "$TCP_PORT" '')
    values[TLS_CERT]="ssl_certificate \"$RUN_DIR/tls/cert.pem\";"
    values[TLS_KEY]="ssl_certificate_key \"$RUN_DIR/tls/key.pem\";"
}

# IPv6 only where the kernel has it: NGINX refuses to start otherwise.
listen() {
    printf 'listen %s%s;' "$1" "$2"
    if grep -qs . /proc/net/if_inet6; then printf ' listen [::]:%s%s;' "$1" "$2"; fi
}

temp_paths() {
    local kind
    for kind in client_body proxy fastcgi uwsgi scgi; do
        printf '%s_temp_path "%s"; ' "$kind" "$NGINX_DIR/temp/$kind"
    done
}

# The stream module is a file of its own on Debian, and built in elsewhere.
stream_module() {
    local arguments directory
    arguments=$(nginx -V 2>&1)
    [[ $arguments != *' --with-stream '* ]] || return 0
    for directory in "$(sed -n 's/.*--modules-path=\([^ ]*\).*/\1/p' <<<"$arguments")" \
        /usr/lib/nginx/modules /usr/lib64/nginx/modules; do
        if [[ -f $directory/ngx_stream_module.so ]]; then
            printf 'load_module "%s/ngx_stream_module.so";' "$directory"
            return 0
        fi
    done
    die "NGINX's stream module is missing: run scripts/install-deps.sh"
}

# ---------------------------------------------------------------- common

# A port must be free unless the process that is to have it has it already.
require_free() {
    local name=$1 address=$2 port=$3 setting=$4
    if process_lives "$name"; then return 0; fi
    end_session "$name"
    if port_answers "$address" "$port"; then
        die "port $port of $address, wanted for $name, is taken by another process: stop that or set $setting"
    fi
}

# await NAME SECONDS WHAT COMMAND...: until the command succeeds; shows the log when the process ends
# or the time is up.
await() {
    local name=$1 seconds=$2 what=$3
    shift 3
    wait_for "$seconds" ready_or_dead "$name" "$@" || die_with_log "$name did not $what within $seconds s" "$LOG_DIR/$name.log"
    process_lives "$name" || die_with_log "$name ended $(exit_code "$name")instead of running" "$LOG_DIR/$name.log"
}

# "with code 2 ", when the process was started by this run of the script.
exit_code() {
    local pid status=0
    read -r pid _ <"$PID_DIR/$1.pid"
    wait "$pid" 2>/dev/null || status=$?
    ((status == 127)) || printf 'with code %d ' "$status"
}

say_what_remains() {
    (($1 != 0)) || return 0
    if [[ -n $(process_names '*') ]]; then
        warn "what was started so far runs on: scripts/status.sh shows it, scripts/down.sh ends it"
    fi
}

port_suffix() { [[ $1 == "$2" ]] || printf ':%s' "$1"; }

print_tour() {
    local http https
    http="http://localhost$(port_suffix "$HTTP_PORT" 80)"
    https="https://localhost$(port_suffix "$HTTPS_PORT" 443)"
    cat <<TOUR

The stack is up. Try:
  curl $http/health
  curl -k $https/health
  curl -X POST "$http/stream?size=169"
  curl -X POST "$http/stream?size=1GiB"
  curl -r 0-4 http://localhost:$TCP_PORT/hello.txt
  printf '\\5\\0\\0\\0\\0\\0\\0\\0hello' | nc -N localhost $TCP_PORT
  curl "$STACK_CONSUL_URL/v1/health/service/file-server-http?passing"
  dig @127.0.0.1 -p $CONSUL_DNS_PORT file-server-http.service.consul SRV
Consul's pages: $STACK_CONSUL_URL/ui/   files: $ROOT_DIR   logs: $LOG_DIR
State: scripts/status.sh   end: scripts/down.sh
TOUR
}

main "$@"
