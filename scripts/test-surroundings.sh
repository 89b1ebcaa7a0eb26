#!/usr/bin/env bash
# The stack where it isn't alone: with a caller whose environment, curl and locale are against it, as nobody under env -i
# in a folder with blanks, with a pid file that names a stranger, in a folder that is somebody else's, on a full disk, and
# with its port to the files opened to others. Has a state folder and ports of its own.
set -euo pipefail
unset REPLICAS ROOT_DIR HTTP_PORT HTTPS_PORT TCP_PORT DATA_PORT CONTROL_PORT
unset CONSUL_HTTP_PORT CONSUL_DNS_PORT CONSUL_SERVER_PORT CONSUL_SERF_PORT CONSUL_HTTP_ADDR CONSUL_HTTP_TOKEN
SUITE_DIR=$(mktemp -d "${TMPDIR:-/tmp}/streamd-test-surroundings.XXXXXX")
# A path with a blank, for all that follows.
export RUN_DIR="$SUITE_DIR/the stack"
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/checks.sh"
source "$LIB_DIR/values.sh"
source "$LIB_DIR/settings.sh"
source "$LIB_DIR/waiting.sh"
source "$LIB_DIR/network.sh"
source "$LIB_DIR/processes.sh"
source "$LIB_DIR/consul.sh"
source "$LIB_DIR/consul-program.sh"
source "$LIB_DIR/suite.sh"
source "$LIB_DIR/suite-stack.sh"

usage() {
    cat <<'USAGE'
usage: test-surroundings.sh

Prints one line per check and ends with "N passed, M failed". Exit code 0 when none failed. When one
failed, the logs are kept and their folder is named. What needs root or namespaces is skipped without them.
environment: STREAMD_BIN (built by cargo)
USAGE
}

SECRET=0123-secret-4567
STRANGER_PID=
PROXY_PID=

main() {
    parse_suite_arguments "$@"
    clean_up_at_the_end
    prepare
    test_numbers
    test_secrets
    test_interrupted
    test_hostile_caller
    test_open_port
    test_stranger
    test_wipe
    test_others_folder
    test_nobody
    test_full_disk
    finish
}

parse_suite_arguments() {
    (($#)) || return 0
    rm -rf -- "$SUITE_DIR"
    case $1 in
        -h | --help) usage && exit 0 ;;
        *) die_usage "unknown argument \"$1\"" ;;
    esac
}

prepare() {
    STREAMD_BIN=$(realpath -m "$(streamd_path)")
    [[ -x $STREAMD_BIN ]] || (cd "$REPO_DIR" && cargo build --release --locked -p streamd)
    export STREAMD_BIN
    choose_ports
    # The stack's folder is up.sh's to make; the suite's own files lie beside it.
    mkdir "$SUITE_DIR/home"
    UP_LOG="$SUITE_DIR/up.log"
    QUIET_LOG="$SUITE_DIR/quiet.log"
}

clean_up() {
    local status=$?
    count_unfinished
    if [[ -n $STRANGER_PID ]]; then kill "$STRANGER_PID" 2>/dev/null || true; fi
    if [[ -n $PROXY_PID ]]; then kill "$PROXY_PID" 2>/dev/null || true; fi
    "$REPO_DIR/scripts/down.sh" >"$SUITE_DIR/cleanup.log" 2>&1 || warn "down.sh failed: see $SUITE_DIR/cleanup.log"
    RUN_DIR=$SUITE_DIR
    remove_or_keep "$status" "logs are"
}

# logged COMMAND...: with its output in the log of all starts.
logged() {
    CHECK_DETAIL="see $UP_LOG"
    printf -- '--- %s\n' "$*" >>"$UP_LOG"
    "$@" >>"$UP_LOG" 2>&1 </dev/null
}

# ---------------------------------------------------------------- numbers, paths

# shellcheck disable=SC2016  # expanded by the inner shell
test_numbers() {
    local all=(environment messages values settings)
    check "numbers: 03 replicas are three, port 08080 is 8080" equal "3 8080" \
        "$(REPLICAS=03 TCP_PORT=08080 in_libraries "$LIB_DIR" "${all[@]}" -- 'load_settings; echo "$REPLICAS $TCP_PORT"')"
    check "numbers: 010 replicas are ten" equal 10 \
        "$(REPLICAS=010 in_libraries "$LIB_DIR" "${all[@]}" -- 'load_settings; echo "$REPLICAS"')"
    check "numbers: DRAIN_SECONDS=08 is taken" ends_saying 1 'does not answer' \
        env DRAIN_SECONDS=08 DRAIN_SECONDS_MAX=09 CONSUL_HTTP_ADDR=127.0.0.1:1 "$SCRIPTS_DIR/consul-register.sh" nginx 127.0.0.1 080
    check "paths: a relative CARGO_TARGET_DIR is where the caller is" equal /usr/t/release/streamd \
        "$(unset STREAMD_BIN && cd /usr/lib && CARGO_TARGET_DIR=../t in_libraries "$LIB_DIR" "${all[@]}" -- 'cd /; streamd_path')"
    check "paths: CDPATH changes nothing" equal "$REPO_DIR" \
        "$(cd "$REPO_DIR/.." && CDPATH=$REPO_DIR/.. bash -c 'source "$1/scripts/lib/environment.sh"; echo "$REPO_DIR"' _ "$(basename "$REPO_DIR")")"
    local name
    for name in 'a [copy]' 'a*' 'a?' 'a{b' $'a\nb'; do
        check "paths: a RUN_DIR in ${name@Q} is refused" ends_saying 1 'set another' env RUN_DIR="$SUITE_DIR/$name/run" "$SCRIPTS_DIR/up.sh"
        check "paths: and isn't made" test ! -e "$SUITE_DIR/$name"
    done
    for name in dist.sh install-deps.sh test-package.sh; do
        check "env -i: $name begins without a HOME" ends_saying 0 "usage: $name" env -i PATH="$PATH" "$SCRIPTS_DIR/$name" -h
    done
    check "ports: two of the same are refused" ends_saying 2 "DATA_PORT and HTTPS_PORT are both $DATA_PORT" \
        env HTTPS_PORT="0$DATA_PORT" "$SCRIPTS_DIR/up.sh"
    for name in 0=0022 002=0022 027=0027 077=0077 777=0077; do
        check "umask ${name%=*} becomes ${name#*=}" equal "${name#*=}" "$(umask "${name%=*}" && in_libraries "$LIB_DIR" environment -- umask)"
    done
    check "TCP_ADDRESS: a name is refused" ends_saying 2 'it must be loopback' env TCP_ADDRESS=localhost "$SCRIPTS_DIR/up.sh"
    check "TCP_ADDRESS: a directive is refused" ends_saying 2 'it must be loopback' env TCP_ADDRESS='1.2.3.4; x' "$SCRIPTS_DIR/up.sh"
}

# ---------------------------------------------------------------- told to end

test_interrupted() {
    local status=0
    "$SCRIPTS_DIR/up.sh" --no-smoke >"$SUITE_DIR/interrupted.log" 2>&1 </dev/null &
    wait_for 20 process_lives consul || warn "up.sh starts no Consul: see $SUITE_DIR/interrupted.log"
    kill -TERM "$!"
    wait "$!" || status=$?
    check "told to end: up.sh ends with 143" equal 143 "$status"
    check "told to end: it says that something runs on" quiet grep 'was started so far runs on' "$SUITE_DIR/interrupted.log"
    check "told to end: down.sh ends that" quiet "$SCRIPTS_DIR/down.sh" --wipe
    check "told to end: nothing is left" test ! -e "$RUN_DIR"
}

# ---------------------------------------------------------------- secrets

# An agent that takes a connection and says nothing, so that curl can be looked at meanwhile.
test_secrets() {
    local port=$CONSUL_HTTP_PORT agent output lines
    timeout 20 nc -l 127.0.0.1 "$port" >"$SUITE_DIR/asked" 2>/dev/null </dev/null &
    agent=$!
    wait_for 10 port_is_bound "$port"
    check "secrets: a token that can't be read is named" ends_saying 1 "the token in $SUITE_DIR/absent can't be read" \
        env CONSUL_HTTP_ADDR="127.0.0.1:$port" CONSUL_HTTP_TOKEN_FILE="$SUITE_DIR/absent" "$SCRIPTS_DIR/consul-register.sh" nginx 127.0.0.1 9
    check "secrets: and nobody is asked without it" test ! -s "$SUITE_DIR/asked"
    CONSUL_HTTP_ADDR="http://user:$SECRET@127.0.0.1:$port" CONSUL_HTTP_TOKEN="token-$SECRET" \
        "$SCRIPTS_DIR/consul-register.sh" nginx 127.0.0.1 9 >"$SUITE_DIR/register.log" 2>&1 &
    local register=$!
    wait_for 10 grep -q Consul-Token "$SUITE_DIR/asked" || true
    # Not as an argument of grep, which would find itself.
    printf '%s\n' "$SECRET" >"$SUITE_DIR/secret"
    lines=$(cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\0' ' ' | grep -c -F -f "$SUITE_DIR/secret" || true)
    check "secrets: no process shows them in its arguments" equal 0 "$lines"
    check "secrets: the agent got the token" quiet grep "X-Consul-Token: token-$SECRET" "$SUITE_DIR/asked"
    wait "$register" || true
    kill "$agent" 2>/dev/null || true
    output=$(cat "$SUITE_DIR/register.log")
    check "secrets: the log masks the address" equal "1 0" \
        "$(grep -c -F '//***@127.0.0.1' <<<"$output") $(grep -c -F "$SECRET" <<<"$output" || true)"
}

port_is_bound() { [[ -n $(ss -Hltn "sport = :$1") ]]; }

# ---------------------------------------------------------------- a caller whose surroundings are against it

test_hostile_caller() {
    start_proxy
    printf 'output = "%s"\nproxy = "http://127.0.0.1:%s"\n' "$SUITE_DIR/stolen" "$PROXY_PORT" >"$SUITE_DIR/home/.curlrc"
    printf 'def broken(' >"$SUITE_DIR/home/.jq"
    make_own_certificate
    check "a hostile caller: up.sh brings up 02 replicas, smoke test and all" logged hostile REPLICAS=02 "$SCRIPTS_DIR/up.sh"
    ((CHECKS_FAILED == 0)) || { tail -n 30 "$UP_LOG" >&2 && exit 1; }
    check "a hostile caller: two replicas" equal "replica-1 replica-2 " "$(process_names 'replica-*' | tr '\n' ' ')"
    check "a hostile caller: status.sh calls everything healthy" logged hostile "$SCRIPTS_DIR/status.sh"
    check "a hostile caller: no process has anything of his environment" equal "" "$(foreign_variables)"
    check "a hostile caller: the replica's sink is its own" equal "" "$(ls -A "$SUITE_DIR/spool")"
    check "a hostile caller: his ~/.curlrc wrote nothing" test ! -e "$SUITE_DIR/stolen"
    check "a hostile caller: the recording proxy was asked by nobody" equal 0 "$(wc -l <"$SUITE_DIR/proxy")"
    check "a hostile caller: the proxy does record" proxy_records
}

# Whatever comes is written down and closed.
start_proxy() {
    : >"$SUITE_DIR/proxy"
    mkdir "$SUITE_DIR/spool"
    python3 -c '
import socket, sys
server = socket.create_server(("127.0.0.1", 0))
open(sys.argv[1] + ".port.new", "w").write(str(server.getsockname()[1]))
import os; os.rename(sys.argv[1] + ".port.new", sys.argv[1] + ".port")
while True:
    connection, _ = server.accept()
    connection.settimeout(2)
    try: head = connection.recv(4096)
    except OSError: head = b""
    with open(sys.argv[1], "a") as record: record.write(repr(head) + "\n")
    connection.close()
' "$SUITE_DIR/proxy" </dev/null >/dev/null 2>&1 &
    PROXY_PID=$!
    wait_for 10 test -e "$SUITE_DIR/proxy.port"
    PROXY_PORT=$(cat "$SUITE_DIR/proxy.port")
}

proxy_records() {
    curl -q -s -o /dev/null --max-time 5 -x "http://127.0.0.1:$PROXY_PORT" http://127.0.0.1:1/ || true
    wait_for 5 test -s "$SUITE_DIR/proxy"
}

# hostile [NAME=VALUE...] COMMAND...
hostile() {
    local proxy="http://127.0.0.1:$PROXY_PORT"
    env ALL_PROXY="$proxy" all_proxy="$proxy" HTTP_PROXY="$proxy" http_proxy="$proxy" https_proxy="$proxy" no_proxy= \
        HOME="$SUITE_DIR/home" LC_ALL=xx_XX.UTF-8 LANG=xx_XX.UTF-8 CDPATH="/:$REPO_DIR" \
        STREAMD_SINK=store STREAMD_SPOOL="$SUITE_DIR/spool" STREAMD_UPLOADS=true STREAMD_ROOT=/etc \
        CONSUL_HTTP_ADDR="http://user:$SECRET@192.0.2.1:8500" CONSUL_HTTP_TOKEN="$SECRET" \
        OPENSSL_CONF=/nonexistent GREP_OPTIONS=--color=always POSIXLY_CORRECT=1 "$@"
}

# Prints names of variables which only the caller has, as far as a process of the stack has them.
foreign_variables() {
    local name pid
    for name in $(process_names '*'); do
        pid=$(process_pid "$name") || continue
        tr '\0' '\n' <"/proc/$pid/environ" | sed 's/=.*//' |
            grep -i -E '^(streamd_|.*_proxy|consul_http_token|cdpath|openssl_conf|lang$)' | sed "s/^/$name has /" || true
    done
}

# The certificate is signed with RSA, as older authorities sign, and none that tls-cert.sh made: up.sh has to take it as it is.
make_own_certificate() {
    mkdir -p "$SUITE_DIR/own"
    openssl req -x509 -newkey rsa:2048 -nodes -days 10 -subj /CN=files.example -keyout "$SUITE_DIR/own/key.pem" \
        -out "$SUITE_DIR/own/cert.pem" 2>/dev/null
}

# ---------------------------------------------------------------- the port to the files

test_open_port() {
    local config="$RUN_DIR/streamd.toml"
    check "port $TCP_PORT: answers on this host" equal 200 "$(http_status "http://127.0.0.1:$TCP_PORT/hello.txt")"
    check "port $TCP_PORT: refuses at another address" equal 000 "$(http_status "http://127.0.0.2:$TCP_PORT/hello.txt")"
    printf 'uploads = true\n' >>"$config"
    check "open to others: with uploads and no token up.sh ends with 1 and the reason" \
        ends_saying 1 'set token_file' env TCP_ADDRESS='*' REPLICAS=1 "$SCRIPTS_DIR/up.sh" --no-smoke
    check "open to others: it is closed still" equal 000 "$(http_status "http://127.0.0.2:$TCP_PORT/hello.txt")"
    (umask 077 && printf '%s\n' "$SECRET-$SECRET" >"$SUITE_DIR/token")
    printf 'token_file = "%s"\n' "$SUITE_DIR/token" >>"$config"
    check "open to others: with a token up.sh opens it" logged env TCP_ADDRESS='*' REPLICAS=1 "$SCRIPTS_DIR/up.sh" --no-smoke
    check "open to others: up.sh says so" quiet grep "port $TCP_PORT at all addresses" "$UP_LOG"
    check "open to others: it answers at another address" equal 200 "$(http_status "http://127.0.0.2:$TCP_PORT/hello.txt")"
    check "open to others: an upload without the token is refused" equal 401 \
        "$(http_status -T "$config" "http://127.0.0.2:$TCP_PORT/new")"
    check "open to others: one with it is taken" equal 201 \
        "$(http_status -T "$config" -H "Authorization: Bearer $SECRET-$SECRET" "http://127.0.0.2:$TCP_PORT/new")"
}

# ---------------------------------------------------------------- a pid file that names a stranger

test_stranger() {
    local port=$((CONSUL_SERF_PORT + 1))
    # Whom a SIGHUP ends, as it ends most programs.
    sleep 600 &
    STRANGER_PID=$!
    printf '%s\n' "$STRANGER_PID" >"$NGINX_DIR/nginx.pid"
    # A reload by up.sh for the port, and one by the follower for the replica.
    check "a pid file that names a stranger: up.sh changes a port and adds a replica" \
        logged env REPLICAS=2 TCP_PORT="$port" "$SCRIPTS_DIR/up.sh" --no-smoke
    check "a pid file that names a stranger: NGINX took the port" equal 200 "$(http_status "http://127.0.0.1:$port/hello.txt")"
    check "a pid file that names a stranger: NGINX's lists have the replica" wait_for 15 lists_have 2
    check "a pid file that names a stranger: he lives" kill -0 "$STRANGER_PID"
    kill "$STRANGER_PID" 2>/dev/null || true
    wait "$STRANGER_PID" 2>/dev/null || true
    STRANGER_PID=
}

# ---------------------------------------------------------------- removing

test_wipe() {
    echo mine >"$RUN_DIR/notes"
    echo mine >"$RUN_DIR/www/mine"
    rm -rf "$RUN_DIR/tls"
    cp -r "$SUITE_DIR/own" "$RUN_DIR/tls"
    check "closed again: up.sh, with a certificate that it didn't make" \
        logged env TCP_ADDRESS=loopback REPLICAS=1 "$SCRIPTS_DIR/up.sh" --no-smoke
    check "closed again: it refuses at another address" equal 000 "$(http_status "http://127.0.0.2:$TCP_PORT/hello.txt")"
    check "wipe: down.sh --wipe" logged "$SCRIPTS_DIR/down.sh" --wipe
    check "wipe: what up.sh didn't write is left, and nothing else" equal \
        "./notes ./stack.made ./streamd.toml ./tls/cert.pem ./tls/key.pem ./www/mine ./www/new " "$(files_in "$RUN_DIR")"
    check "wipe: the certificate is as it was" quiet diff -r "$SUITE_DIR/own" "$RUN_DIR/tls"
    rm -rf "$RUN_DIR"
    test_wipe_of_links
    test_wipe_of_mounts
}

# Uploads leave a folder of the daemon's own.
files_in() { (cd "$1" && find . -name .streamd-uploads -prune -o ! -type d -print | sort | tr '\n' ' '); }

# A folder in which a stack was once, with something precious that its names lead to.
make_old_stack() {
    mkdir -p "$RUN_DIR"/{log,pids,nginx} "$SUITE_DIR/precious"
    echo precious >"$SUITE_DIR/precious/file"
    touch "$RUN_DIR/log/consul.log"
    printf '%s\n' . lock stack.env log pids nginx consul "$@" >"$RUN_DIR/stack.made"
}

test_wipe_of_links() {
    make_old_stack ../precious "$SUITE_DIR/precious" precious/../../precious
    ln -s "$SUITE_DIR/precious" "$RUN_DIR/consul"
    ln -s "$SUITE_DIR/precious" "$RUN_DIR/log/link"
    check "wipe: down.sh --wipe where a folder became a link" ends_saying 0 'is a link now' "$SCRIPTS_DIR/down.sh" --wipe
    check "wipe: what links and a forged list lead to is left" equal "precious ./consul ./stack.made " \
        "$(cat "$SUITE_DIR/precious/file") $(files_in "$RUN_DIR")"
    rm -rf "$RUN_DIR"
}

# rm --one-file-system goes into a folder of the same file system that is mounted there.
# shellcheck disable=SC2016  # expanded by the inner shell
test_wipe_of_mounts() {
    if ! can_mount; then say "skipped wipe of mounts: mounting isn't allowed here" && return 0; fi
    make_old_stack
    mkdir "$RUN_DIR/log/a mount"
    check "wipe: down.sh --wipe where something is mounted" ends_saying 0 'something is mounted' \
        unshare --mount bash -c 'mount --bind "$1" "$RUN_DIR/log/a mount" && "$2/down.sh" --wipe' _ "$SUITE_DIR/precious" "$SCRIPTS_DIR"
    check "wipe: what was mounted is left, the rest is gone" equal "precious ./log/consul.log ./stack.made " \
        "$(cat "$SUITE_DIR/precious/file") $(files_in "$RUN_DIR")"
    check "wipe: unmounted, it goes too" logged "$SCRIPTS_DIR/down.sh" --wipe
    check "wipe: with the folder itself, which up.sh had made" test ! -e "$RUN_DIR"
}

can_mount() { ((EUID == 0)) && unshare --mount mount -t tmpfs tmpfs /mnt 2>/dev/null; }

# The script runs as if RUN_DIR=/var were set.
test_others_folder() {
    local name before
    mkdir -p "$RUN_DIR"/{log,www,tls,consul,nginx,pids}
    for name in log/syslog www/index.html tls/key.pem consul/data nginx/nginx.conf pids/nginx.pid streamd.toml; do
        echo "$name" >"$RUN_DIR/$name"
    done
    before=$(files_in "$RUN_DIR")
    check "somebody's folder: down.sh --wipe removes nothing" ends_saying 0 'started no stack' "$SCRIPTS_DIR/down.sh" --wipe
    check "somebody's folder: up.sh doesn't begin there" ends_saying 1 "up.sh didn't make" "$SCRIPTS_DIR/up.sh"
    check "somebody's folder: it is as it was" equal "$before" "$(files_in "$RUN_DIR")"
    rm -rf "$RUN_DIR"
}

# ---------------------------------------------------------------- nobody, without an environment

# In a copy that everybody may read, since the repository may lie where only its owner may go.
test_nobody() {
    local tree="$SUITE_DIR/a copy" status=0
    if ((EUID != 0)); then say "skipped nobody: it needs root" && return 0; fi
    make_copy "$tree"
    if ! as_nobody "$tree" test -x "$tree/scripts/up.sh"; then say "skipped nobody: he can't enter $SUITE_DIR" && return 0; fi
    chmod 0600 "$tree/nginx.conf"
    check "nobody: an nginx.conf that he can't read is one sentence" says_once "$tree/nginx.conf can't be read" \
        as_nobody "$tree" "$tree/scripts/up.sh"
    chmod 0644 "$tree/nginx.conf"
    check "nobody under env -i: up.sh brings the stack up" logged as_nobody "$tree" "$tree/scripts/up.sh"
    check "nobody under env -i: status.sh calls everything healthy" logged as_nobody "$tree" "$tree/scripts/status.sh"
    test_others_stack "$tree"
    chmod 0600 "$tree/run/stack.env"
    chown root "$tree/run/stack.env"
    check "nobody: a stack.env that he can't read is one sentence" says_once "stack.env can't be read" \
        as_nobody "$tree" "$tree/scripts/status.sh"
    check "nobody under env -i: down.sh --wipe" logged as_nobody "$tree" "$tree/scripts/down.sh" --wipe
    check "nobody under env -i: nothing is left" test ! -e "$tree/run"
}

# root must not obey what somebody else may write: such a record could name any process.
test_others_stack() {
    local script victim
    sleep 600 &
    victim=$!
    printf '%s %s %s\n' "$victim" "$(cut -d ' ' -f 22 "/proc/$victim/stat")" "$(cat /proc/sys/kernel/random/boot_id)" >"$1/run/pids/register-victim.pid"
    for script in up.sh down.sh rolling-restart.sh; do
        check "another user's stack: root's $script leaves it alone" ends_saying 1 "another user's" env RUN_DIR="$1/run" "$SCRIPTS_DIR/$script"
    done
    check "another user's stack: no process that it names was signalled" kill -0 "$victim"
    rm -f "$1/run/pids/register-victim.pid"
    kill "$victim" 2>/dev/null || true
    check "another user's stack: it is up" logged as_nobody "$1" "$1/scripts/status.sh"
}

make_copy() {
    local consul
    chmod 0755 "$SUITE_DIR"
    mkdir -p "$1/.deps/consul/usr/bin"
    cp -r "$REPO_DIR"/{scripts,nginx.conf,consul.hcl} "$1/"
    consul=$(consul_path)
    # One that lies below a folder of root's alone is not for him.
    cp "$consul" "$1/.deps/consul/usr/bin/consul"
    cp "$STREAMD_BIN" "$1/streamd"
    chmod -R go+rX "$1"
    chown nobody "$1"
}

# as_nobody TREE COMMAND...
as_nobody() {
    local tree=$1
    shift
    (cd / && setpriv --reuid nobody --regid nogroup --clear-groups env -i STREAMD_BIN="$tree/streamd" REPLICAS=2 \
        HTTP_PORT="$HTTP_PORT" HTTPS_PORT="$HTTPS_PORT" TCP_PORT="$TCP_PORT" DATA_PORT="$DATA_PORT" \
        CONTROL_PORT="$CONTROL_PORT" CONSUL_HTTP_PORT="$CONSUL_HTTP_PORT" CONSUL_DNS_PORT="$CONSUL_DNS_PORT" \
        CONSUL_SERVER_PORT="$CONSUL_SERVER_PORT" CONSUL_SERF_PORT="$CONSUL_SERF_PORT" "$@")
}

# says_once TEXT COMMAND...: it ends with 1, and with nothing but one line of the script's own.
says_once() {
    local text=$1 status=0 output
    shift
    output=$("$@" 2>&1 >/dev/null </dev/null) || status=$?
    CHECK_DETAIL="exit code $status, output: $output"
    [[ $status == 1 && $output == *"$text"* && $output != *$'\n'* && $output != *': line '* ]]
}

# ---------------------------------------------------------------- a full disk

# The disk fills up under a stack that runs, and one of its processes dies.
# shellcheck disable=SC2016  # expanded by the inner shell
test_full_disk() {
    if ! can_mount; then say "skipped full disk: mounting isn't allowed here" && return 0; fi
    mkdir -p "$SUITE_DIR/small"
    unshare --mount bash -c '
        mount -t tmpfs -o size=3M tmpfs "$1"
        export RUN_DIR="$1/run" REPLICAS=1
        "$2/up.sh" --no-smoke && echo "up $?"
        head -c 3M /dev/zero >"$1/fill" 2>/dev/null
        kill -KILL "$(cut -d " " -f 1 "$RUN_DIR/pids/replica-1.pid")"
        "$2/up.sh" --no-smoke 2>&1 >/dev/null | sed "s/^/again: /"
        "$2/down.sh" --wipe >/dev/null && echo "down $?"
        ls -A "$1"' _ "$SUITE_DIR/small" "$SCRIPTS_DIR" >"$SUITE_DIR/full.log" 2>&1 </dev/null || true
    CHECK_DETAIL="see $SUITE_DIR/full.log"
    check "full disk: up.sh came up before" quiet grep -x 'up 0' "$SUITE_DIR/full.log"
    check "full disk: up.sh says so in a sentence" quiet grep 'again: up.sh: the disk of .* is full' "$SUITE_DIR/full.log"
    check "full disk: down.sh --wipe ends the stack and removes it" equal "down 0 fill" "$(tail -n 2 "$SUITE_DIR/full.log" | paste -s -d ' ')"
}

main "$@"
