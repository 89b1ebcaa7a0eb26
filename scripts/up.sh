#!/usr/bin/env bash
# Brings up the whole stack on this machine: a Consul agent, streamd replicas on 127.0.0.1 and up, their
# registration, NGINX in front, and then asks all of them from outside (smoke.sh). Run again, it leaves
# what runs alone and starts again what died. All state and logs are under run/.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/values.sh"
source "$LIB_DIR/settings.sh"
source "$LIB_DIR/lock.sh"
source "$LIB_DIR/made.sh"
source "$LIB_DIR/waiting.sh"
source "$LIB_DIR/network.sh"
source "$LIB_DIR/processes.sh"
source "$LIB_DIR/replicas.sh"
source "$LIB_DIR/consul.sh"
source "$LIB_DIR/alarm.sh"
source "$LIB_DIR/own-entries.sh"
source "$LIB_DIR/consul-program.sh"
source "$LIB_DIR/nginx.sh"
source "$LIB_DIR/nginx-conf.sh"

usage() {
    cat <<'USAGE'
usage: up.sh [--no-smoke]

  --no-smoke  end when everything runs, without the smoke test

environment (default):
  REPLICAS (3), ROOT_DIR (run/www), STREAMD_BIN (built by cargo), RUN_DIR (run)
  HTTP_PORT, HTTPS_PORT (80 and 443 as root, else 8000 and 8443)
  TCP_PORT (9080), TCP_ADDRESS (loopback; * opens that port to other hosts, an address to those that reach it)
  DATA_PORT (8080), CONTROL_PORT (8081)
  CONSUL_HTTP_PORT (8500), CONSUL_DNS_PORT (8600), CONSUL_SERVER_PORT (8300), CONSUL_SERF_PORT (8301)
USAGE
}

# Consul elects itself within 2 s; a busy machine takes longer.
CONSUL_START_SECONDS=30
STREAMD_START_SECONDS=20
NGINX_START_SECONDS=10
# Requests that the old one has in flight get so long.
NGINX_STOP_SECONDS=10
# Consul makes the first check at a random point of the 10 s interval.
PASSING_SECONDS=30

SMOKE=1

main() {
    parse_arguments "$@"
    check_run_dir
    make_run_dir
    trap 'say_what_remains $?' EXIT
    # Else the last of these may see the 0 of the command before the signal.
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    load_settings
    check_paths
    "$REPO_DIR/scripts/install-deps.sh" --run-only 9>&-
    build_streamd
    check_open_port
    choose_nginx_ports
    record_settings
    use_stack_consul
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

# It is written into NGINX's configuration between double quotes, and NGINX takes what it includes for a pattern.
check_run_dir() {
    [[ $RUN_DIR != *[\"\'\$\\\;\{\}*?[]* ]] || die "RUN_DIR is $RUN_DIR: NGINX can't be given such a path; set another"
    [[ $RUN_DIR != *$'\n'* ]] || die "RUN_DIR has a line feed in it: set another"
}

check_paths() {
    [[ $ROOT_DIR != *$'\n'* ]] || die "ROOT_DIR has a line feed in it: set another"
    local file
    for file in "$REPO_DIR"/{nginx.conf,consul.hcl}; do [[ -r $file ]] || die "$file can't be read"; done
    ROOT_DIR=$(realpath -m "$ROOT_DIR")
    if [[ $ROOT_DIR == "$RUN_DIR/www" && ! -e $ROOT_DIR/hello.txt && ! -L $ROOT_DIR/hello.txt ]]; then
        make_samples
    fi
    [[ -d $ROOT_DIR ]] || die "ROOT_DIR is $ROOT_DIR: there is no such directory"
}

make_samples() {
    [[ -d $ROOT_DIR ]] || note_made www
    mkdir -p -- "$ROOT_DIR" || die "can't create $ROOT_DIR"
    note_made www/hello.txt
    write_file "$ROOT_DIR/hello.txt" "$HELLO"
}

# ---------------------------------------------------------------- streamd

build_streamd() {
    STREAMD=$(streamd_path)
    if [[ -n ${STREAMD_BIN:-} ]]; then
        STREAMD=$(realpath -m "$STREAMD_BIN")
        [[ -x $STREAMD ]] || die "STREAMD_BIN is $STREAMD_BIN: there is no such program"
        return 0
    fi
    # rustup's place, which sudo and env -i take off the PATH.
    PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
    command -v cargo >/dev/null ||
        die "cargo is missing: install a Rust toolchain (rustup), or set STREAMD_BIN to a streamd"
    say "streamd: building (log: $LOG_DIR/build.log)"
    (cd "$REPO_DIR" && cargo build --release -p streamd >"$LOG_DIR/build.log" 2>&1 9>&-) ||
        die_with_log "streamd could not be built" "$LOG_DIR/build.log"
}

# Through a port that is open to others their requests come to the replicas from this host: what the daemon thinks of
# its settings then has to be known before NGINX lets anybody in.
check_open_port() {
    local i says
    tcp_is_open || return 0
    for ((i = 1; i <= REPLICAS; i++)); do
        replica_command "$i" "$STREAMD"
        # A new stack has no file yet, and gets one with nothing in it.
        [[ -e $(replica_config "$i") ]] || REPLICA_COMMAND[2]=/dev/null
        says=$(exec_in_stack_environment "${REPLICA_COMMAND[@]}" --check 2>&1) ||
            die "TCP_ADDRESS=$TCP_ADDRESS opens port $TCP_PORT to others, and replica-$i refuses that, so that nothing was changed: ${says//$'\n'/; }"
    done
}

start_replicas() {
    local i config="$RUN_DIR/streamd.toml"
    # A file of its own, so that one in /etc/streamd doesn't change the stack.
    if [[ ! -e $config && ! -L $config ]]; then
        note_made streamd.toml
        write_file "$config" "$STREAMD_TOML"
    fi
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
    local service
    say "waiting for Consul's checks"
    for service in file-server-http file-server-tcp nginx; do
        wait_for "$PASSING_SECONDS" all_own_pass "$service" ||
            die "Consul shows $(own_that_pass "$service") of $(own_ids "$service" | wc -w) $service passing after $PASSING_SECONDS s: see scripts/status.sh and the logs in $LOG_DIR"
    done
}

# ---------------------------------------------------------------- NGINX

# Sets HTTP_PORT and HTTPS_PORT where the caller has not: what the running NGINX has, else the standard
# ports, else the high ones.
choose_nginx_ports() {
    choose_port HTTP_PORT 80 8000
    choose_port HTTPS_PORT 443 8443
    check_ports_differ
    local name
    for name in HTTP_PORT HTTPS_PORT; do
        require_free nginx 127.0.0.1 "${!name}" "$name"
    done
    require_free nginx "$(tcp_host)" "$TCP_PORT" TCP_PORT
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
    render_nginx_conf >"$NGINX_DIR/nginx.conf.new" || die "can't write $NGINX_DIR/nginx.conf.new"
    fill_upstreams
    test_nginx_conf
    install_nginx_conf
    await nginx "$NGINX_START_SECONDS" "answer at http://127.0.0.1:$HTTP_PORT/health" nginx_answers
    ensure_process nginx-upstreams "$REPO_DIR/scripts/keep.sh" "$REPO_DIR/scripts/nginx-upstreams.sh"
    ensure_process register-nginx "$REPO_DIR/scripts/consul-register.sh" --watch nginx 127.0.0.1 "$HTTP_PORT"
}

install_nginx_conf() {
    local conf="$NGINX_DIR/nginx.conf" changed=0
    cmp -s "$conf.new" "$conf" || changed=1
    if ((changed)) && process_lives nginx && has_other_addresses "$conf" "$conf.new"; then
        say "  nginx listens at other addresses now: restarting it"
        stop_processes QUIT "$NGINX_STOP_SECONDS" nginx
    fi
    if [[ -f $conf ]]; then cp -p "$conf" "$conf.last"; fi
    mv "$conf.new" "$conf"
    ensure_process nginx "$(command -v nginx)" -p "$NGINX_DIR" -c "$conf" -g 'daemon off;'
    if ((changed && !STARTED)); then
        say "  nginx.conf has changed: reloading it"
        if ! reload_nginx "$conf" "$NGINX_DIR"; then
            # The next up.sh must see again that it has changed.
            mv "$conf.last" "$conf"
            die_with_log "${NGINX_FAULT:-nginx ended instead of reloading}" "$LOG_DIR/nginx.log"
        fi
    fi
    rm -f "$conf.last"
}

test_nginx_conf() {
    nginx -t -p "$NGINX_DIR" -c "$NGINX_DIR/nginx.conf.new" >"$LOG_DIR/nginx-test.log" 2>&1 ||
        die_with_log "NGINX refuses the configuration rendered from nginx.conf" "$LOG_DIR/nginx-test.log"
}

nginx_answers() { [[ $(http_status "http://127.0.0.1:$HTTP_PORT/health") == 200 ]]; }

# NGINX doesn't start without a server in each list; of the stack's own, whoever else passes.
fill_upstreams() {
    local log_file="$LOG_DIR/nginx-upstreams-once.log"
    wait_for "$PASSING_SECONDS" write_lists "$log_file" ||
        die_with_log "NGINX's upstream lists could not be written within $PASSING_SECONDS s" "$log_file"
}

write_lists() { "$REPO_DIR/scripts/nginx-upstreams.sh" --once >"$1" 2>&1; }

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
    local http https tcp
    http="http://localhost$(port_suffix "$HTTP_PORT" 80)"
    https="https://localhost$(port_suffix "$HTTPS_PORT" 443)"
    tcp=$(tcp_host)
    [[ $tcp != 127.0.0.1 ]] || tcp=localhost
    cat <<TOUR

The stack is up. Try:
  curl $http/health
  curl -k $https/health
  curl -X POST "$http/stream?size=169"
  curl -X POST "$http/stream?size=1GiB"
  curl -r 0-4 http://$(host_port "$tcp" "$TCP_PORT")/hello.txt
  printf '\\5\\0\\0\\0\\0\\0\\0\\0hello' | nc -N $tcp $TCP_PORT
  curl "$STACK_CONSUL_URL/v1/health/service/file-server-http?passing"
  dig @127.0.0.1 -p $CONSUL_DNS_PORT file-server-http.service.consul SRV
Consul's pages: $STACK_CONSUL_URL/ui/   files: $ROOT_DIR   logs: $LOG_DIR
State: scripts/status.sh   end: scripts/down.sh
Open to other hosts:
  port $HTTP_PORT and port $HTTPS_PORT (TLS): GET /health; /stream is for this host alone
$(say_open_port)
To this host alone: the replicas' own ports ($DATA_PORT, $CONTROL_PORT), Consul ($CONSUL_HTTP_PORT, $CONSUL_DNS_PORT)$(tcp_is_open || printf ', port %s' "$TCP_PORT")
TOUR
}

say_open_port() {
    if tcp_is_open; then
        say "  port $TCP_PORT at ${TCP_ADDRESS/#\*/all addresses}: every file in $ROOT_DIR, and frames; uploads, where they are on, with the token"
    else
        say "  nothing else; TCP_ADDRESS='*' scripts/up.sh opens port $TCP_PORT to them"
    fi
}

main "$@"
