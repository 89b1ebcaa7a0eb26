#!/usr/bin/env bash
# Tests the parts of the repository that a server gets: nginx.conf with its TLS and its forwarding before a real streamd, tls-cert.sh
# among certificates that it didn't make, and reloads beside processes that only look like NGINX. Needs no Consul. Has a
# folder and ports of its own.
set -euo pipefail
unset REPLICAS ROOT_DIR HTTP_PORT HTTPS_PORT TCP_PORT DATA_PORT CONTROL_PORT
unset CONSUL_HTTP_PORT CONSUL_DNS_PORT CONSUL_SERVER_PORT CONSUL_SERF_PORT CONSUL_HTTP_ADDR CONSUL_HTTP_TOKEN
RUN_DIR=$(mktemp -d "${TMPDIR:-/tmp}/streamd-test-server.XXXXXX")
export RUN_DIR
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"
source "$LIB_DIR/checks.sh"
source "$LIB_DIR/values.sh"
source "$LIB_DIR/settings.sh"
source "$LIB_DIR/waiting.sh"
source "$LIB_DIR/network.sh"
source "$LIB_DIR/processes.sh"
source "$LIB_DIR/replicas.sh"
source "$LIB_DIR/consul.sh"
source "$LIB_DIR/nginx-conf.sh"
source "$LIB_DIR/suite.sh"
source "$LIB_DIR/suite-stack.sh"

usage() {
    cat <<'USAGE'
usage: test-server.sh

Prints one line per check and ends with "N passed, M failed". Exit code 0 when none failed. When one
failed, the logs are kept and their folder is named.
environment: STREAMD_BIN (built by cargo)
USAGE
}

# Mozilla's intermediate list (guideline 5.8), as far as it goes with an RSA key.
RSA_CIPHERS='ECDHE-RSA-AES128-GCM-SHA256 ECDHE-RSA-AES256-GCM-SHA384 ECDHE-RSA-CHACHA20-POLY1305 '
TLS_DIR="$RUN_DIR/certificates"
STRANGER_PID=

main() {
    no_arguments "$@"
    clean_up_at_the_end
    choose_ports
    start_server
    test_listeners
    test_tls
    test_forwarding
    test_clients
    test_reload
    test_certificates
    finish
}

clean_up() {
    local status=$?
    count_unfinished
    if [[ -n $STRANGER_PID ]]; then kill "$STRANGER_PID" 2>/dev/null || true; fi
    stop_processes TERM 20 replica-1 nginx haproxy
    remove_or_keep "$status" "logs are"
}

# ---------------------------------------------------------------- a server

# The shipped file, with this suite's ports and paths.
start_server() {
    STREAMD=$(realpath -m "$(streamd_path)")
    [[ -x $STREAMD ]] || (cd "$REPO_DIR" && cargo build --release --locked -p streamd)
    mkdir -p "$LOG_DIR" "$PID_DIR" "$ROOT_DIR" "$NGINX_DIR"/{temp,upstreams} "$RUN_DIR/tls"
    touch "$RUN_DIR/streamd.toml"
    openssl req -x509 -newkey rsa:2048 -nodes -days 10 -subj /CN=files.example \
        -keyout "$RUN_DIR/tls/key.pem" -out "$RUN_DIR/tls/cert.pem" 2>/dev/null
    start_replica 1 "$STREAMD" >/dev/null
    check "server: streamd starts" became_healthy 1 20
    printf 'server 127.0.0.1:%s max_fails=0;\n' "$CONTROL_PORT" >"$NGINX_DIR/upstreams/control.conf"
    printf 'server 127.0.0.1:%s max_fails=0;\n' "$DATA_PORT" >"$NGINX_DIR/upstreams/data.conf"
    render_nginx_conf >"$NGINX_DIR/nginx.conf"
    check "server: nginx -t has nothing to say against nginx.conf" nginx_says_nothing
    start_process nginx "$(command -v nginx)" -p "$NGINX_DIR" -c "$NGINX_DIR/nginx.conf" -g 'daemon off;'
    check "server: NGINX answers" wait_for 10 answers_ok "$NGINX_URL/health"
}

nginx_says_nothing() {
    CHECK_DETAIL=$(nginx -t -p "$NGINX_DIR" -c "$NGINX_DIR/nginx.conf" 2>&1 | grep -v -e 'syntax is ok' -e 'test is successful' || true)
    [[ -z $CHECK_DETAIL ]]
}

answers_ok() { [[ $(direct_curl -s -k --max-time 5 "$@") == OK ]]; }

# The file is tested as it is, and not only as up.sh makes it.
test_listeners() {
    check "nginx.conf: 9080 is for this host" equal "127.0.0.1:9080 [::1]:9080 " \
        "$(grep -o -E '^ *listen [^#]*9080' "$REPO_DIR/nginx.conf" | grep -o -E '[^ ]*9080' | tr '\n' ' ')"
    check "nginx.conf: its port answers on this host" equal 404 "$(http_status "http://127.0.0.1:$TCP_PORT/absent")"
    check "nginx.conf: its port refuses at another address" equal 000 "$(http_status "http://127.0.0.2:$TCP_PORT/absent")"
}

# ---------------------------------------------------------------- TLS

test_tls() {
    check "TLS 1.2 with an RSA key: Mozilla's intermediate list, and nothing else" equal "$RSA_CIPHERS" "$(accepted_ciphers)"
    check "TLS 1.3 is spoken" handshake -tls1_3
    check "TLS 1.1 is not" fails handshake -tls1_1 -cipher ALL:@SECLEVEL=0
    if has_http2; then
        check "HTTP/2 is spoken" equal "2 200" \
            "$(direct_curl -s -k -o /dev/null --max-time 5 -w '%{http_version} %{http_code}' "https://127.0.0.1:$HTTPS_PORT/health")"
    else
        say "skipped HTTP/2: this curl doesn't know it"
    fi
}

has_http2() { direct_curl --version | grep -q HTTP2; }

handshake() { openssl s_client -connect "127.0.0.1:$HTTPS_PORT" "$@" </dev/null >/dev/null 2>&1; }

accepted_ciphers() {
    local cipher
    for cipher in $(openssl ciphers -tls1_2 -s ALL:@SECLEVEL=0 | tr ':' '\n' | grep -v '^TLS_' | sort); do
        if handshake -tls1_2 -cipher "$cipher:@SECLEVEL=0"; then printf '%s ' "$cipher"; fi
    done
}

# ---------------------------------------------------------------- forwarding

test_forwarding() {
    local path
    for path in /health /%68ealth //health '/health?a=b' /./health /x/../health; do
        check "forwarding: GET $path is OK" answers_ok --path-as-is "$NGINX_URL$path"
    done
    for path in /health/ /%2568ealth /healthy /HEALTH /metrics /streams; do
        check "forwarding: GET $path is 404" equal 404 "$(http_status --path-as-is "$NGINX_URL$path")"
    done
    check "forwarding: POST /%73tream keeps its query" equal 169 \
        "$(direct_curl -s --max-time 10 -X POST "$NGINX_URL/%73tream?size=169" | jq .bytes_sent)"
    check "forwarding: HTTP/1.0 without Host is answered" raw_answer 'GET /health HTTP/1.0\r\n\r\n' OK
    check "forwarding: HTTP/1.1 without Host is 400" raw_answer 'GET /health HTTP/1.1\r\n\r\n' '400 Bad Request'
    check "half-close: GET /health is answered" raw_answer 'GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n' OK
    # Long enough that NGINX sees the end of the client's side before the answer.
    check "half-close: POST /stream is answered when the stream is done" \
        raw_answer 'POST /stream?size=1GiB HTTP/1.1\r\nHost: localhost\r\n\r\n' '"bytes_sent":1073741824'
    check "half-close: the access log has no 499" fails grep ' 499 ' "$LOG_DIR/nginx-access.log"
    for path in --http1.1 --http2; do
        [[ $path != --http2 ]] || has_http2 || continue
        check "forwarding: a name that a web page made up is refused ($path)" equal 403 "$(http_status "$path" -X POST \
            --resolve "evil.example:$HTTPS_PORT:127.0.0.1" "https://evil.example:$HTTPS_PORT/stream?size=1")"
    done
}

# raw_answer REQUEST TEXT: of a client that ends its side as soon as it has asked.
raw_answer() {
    # shellcheck disable=SC2059  # the request has escapes
    CHECK_DETAIL="got: $(printf "$1" | timeout 60 nc -N 127.0.0.1 "$HTTP_PORT" || true)"
    [[ $CHECK_DETAIL == *"$2"* ]]
}

# ---------------------------------------------------------------- whom streamd sees

test_clients() {
    local port
    port=$(client_port --interface 127.0.0.9 "http://127.0.0.1:$TCP_PORT/through-nginx")
    check "clients: port $TCP_PORT tells the data plane who asks" wait_for 10 has_line "127.0.0.9:$port" /through-nginx
    check "clients: a frame through it is taken" equal "done" \
        "$(printf '\3\0\0\0\0\0\0\0abc' | timeout 10 nc -N 127.0.0.1 "$TCP_PORT" || true)"
    port=$(client_port --interface 127.0.0.8 "http://127.0.0.1:$DATA_PORT/direct")
    check "clients: the data port itself takes whoever sends no header" wait_for 10 has_line "127.0.0.8:$port" /direct
    port=$(client_port --haproxy-protocol --interface 127.0.0.7 "http://127.0.0.1:$DATA_PORT/line")
    check "clients: curl's PROXY header is taken" wait_for 10 has_line "127.0.0.7:$port" /line
    check "clients: port $HTTP_PORT tells the control plane who asks" wait_for 10 is_refused_by_name 127.0.0.6
    check "clients: a Forwarded that the client made up doesn't get through" equal 200 \
        "$(http_status -X POST -H 'Forwarded: for=192.0.2.7' "$NGINX_URL/stream?size=1")"
    check "clients: nor does it count what stands before NGINX's own word" equal 200 \
        "$(http_status -X POST --interface 127.0.0.6 -H 'X-Forwarded-For: 127.0.0.5' "$NGINX_URL/stream?size=1")"
    check "clients: what a proxy on this host says of another one may not start a stream" equal 403 \
        "$(http_status -X POST -H 'X-Forwarded-For: 192.0.2.7' "http://127.0.0.1:$CONTROL_PORT/stream?size=1")"
    test_haproxy
}

# Prints the port that the request came from.
client_port() { direct_curl -s -o /dev/null --max-time 5 -w '%{local_port}' "$@" || true; }

# has_line PEER PATH: whether the data plane has such an access line.
has_line() { grep -F "\"peer\":\"$1\"" "$LOG_DIR/replica-1.log" | grep -qF "\"path\":\"$2\""; }

# Asks again, since of several refusals in a second one has a line.
is_refused_by_name() {
    http_status --interface "$1" -H 'Host: evil.example' -X POST "$NGINX_URL/stream?size=1" >/dev/null
    grep -F 'control request refused' "$LOG_DIR/replica-1.log" | grep -qF "\"peer\":\"$1:0\""
}

# Both versions of the header, as HAProxy sends them.
test_haproxy() {
    # Nothing else of this suite has that port.
    local version port=$CONSUL_HTTP_PORT option
    if ! command -v haproxy >/dev/null; then
        say "skipped HAProxy: it isn't installed"
        return 0
    fi
    for version in 1 2; do
        option=send-proxy
        ((version == 1)) || option=send-proxy-v2
        printf '%s\n' 'defaults' ' mode tcp' ' timeout connect 5s' ' timeout client 10s' ' timeout server 10s' \
            'listen data' " bind 127.0.0.1:$port" " server data 127.0.0.1:$DATA_PORT $option" >"$RUN_DIR/haproxy.cfg"
        start_process haproxy "$(command -v haproxy)" -db -f "$RUN_DIR/haproxy.cfg"
        check "HAProxy: it answers ($option)" wait_for 10 answers_404 "http://127.0.0.1:$port/started"
        check "HAProxy: version $version names the client" wait_for 10 is_named_by_haproxy "$port" "/haproxy-$version"
        stop_processes TERM 10 haproxy
    done
}

answers_404() { [[ $(http_status "$1") == 404 ]]; }

is_named_by_haproxy() {
    local from
    from=$(client_port --interface 127.0.0.10 "http://127.0.0.1:$1$2")
    wait_for 2 has_line "127.0.0.10:$from" "$2"
}

# ---------------------------------------------------------------- reloads

# The scripts run as installed, where no up.sh has written down which process NGINX is.
# shellcheck disable=SC2016  # expanded by the inner shell
test_reload() {
    local conf="$NGINX_DIR/nginx.conf" pid_file="$NGINX_DIR/nginx.pid" master workers pid
    install_scripts "$RUN_DIR/usr/lib/streamd"
    master=$(process_pid nginx)
    workers=$(workers_of "$master")
    check "reload: NGINX is found by its pid file" equal "$master" "$(installed 'nginx_master "$1" "$2"' "$conf" "$NGINX_DIR")"
    check "reload: it works with other workers after it" other_workers "$master" "$workers"
    cp "$conf" "$NGINX_DIR/other.conf"
    check "reload: an NGINX that was started with another configuration is not it" is_refused "$NGINX_DIR/other.conf"
    sleep 600 &
    STRANGER_PID=$!
    printf '%s\n' "$STRANGER_PID" >"$pid_file"
    check "reload: another program is not it" is_refused "$conf"
    end_stranger
    (exec -a "nginx: master process nginx -c $conf" sleep 600) &
    STRANGER_PID=$!
    printf '%s\n' "$STRANGER_PID" >"$pid_file"
    wait_for 5 grep -q 'nginx: master' "/proc/$STRANGER_PID/cmdline" || true
    check "reload: one that calls itself so is not it" is_refused "$conf"
    end_stranger
    printf '%s\n' "${workers%% *}" >"$pid_file"
    check "reload: a worker is not it" is_refused "$conf"
    # These are the ids that kill(2) takes for everybody and for a process group. Asked without a signal: whoever breaks this must not pay
    # with all that runs on his machine.
    for pid in -1 0 -"$master" 1; do
        printf '%s\n' "$pid" >"$pid_file"
        check "reload: $pid is not it" fails installed 'nginx_master "$1" "$2"' "$conf" "$NGINX_DIR"
    done
    printf '%s\n' "$master" >"$pid_file"
    check "reload: NGINX is found again" equal "$master" "$(installed 'nginx_master "$1" "$2"' "$conf" "$NGINX_DIR")"
}

end_stranger() {
    check "reload: he lives" kill -0 "$STRANGER_PID"
    kill "$STRANGER_PID" 2>/dev/null || true
    wait "$STRANGER_PID" 2>/dev/null || true
    STRANGER_PID=
}

# installed SCRIPT ARGUMENT...: with the libraries as they lie on a server.
installed() {
    in_libraries "$RUN_DIR/usr/lib/streamd/lib" environment messages waiting processes nginx -- "$@"
}

# Nobody is signalled, and it is as if NGINX didn't run.
# shellcheck disable=SC2016  # expanded by the inner shell
is_refused() {
    CHECK_DETAIL=$(installed 'if reload_nginx "$1" "$2"; then echo signalled; else echo "refused:$NGINX_FAULT"; fi' "$1" "$NGINX_DIR" 2>&1)
    [[ $CHECK_DETAIL == refused: ]]
}

# shellcheck disable=SC2016  # expanded by the inner shell
other_workers() {
    installed 'reload_nginx "$1" "$2"' "$NGINX_DIR/nginx.conf" "$NGINX_DIR" || return 1
    CHECK_DETAIL="before $2, after $(workers_of "$1")"
    [[ $2 != "$(workers_of "$1")" ]]
}

workers_of() { cat "/proc/$1/task/$1/children"; }

# ---------------------------------------------------------------- certificates

test_certificates() {
    test_own_certificate
    test_others_certificates
    test_planted_links
    test_removed_certificate
}

make_tls_dir() { rm -rf "$TLS_DIR" && mkdir "$TLS_DIR"; }

tls_cert() { "$SCRIPTS_DIR/tls-cert.sh" "$TLS_DIR"; }

names_in() { find "$1" -mindepth 1 -printf '%P\n' | sort | tr '\n' ' '; }

digests() { (cd "$TLS_DIR" && sha256sum ./*.pem); }

test_own_certificate() {
    local before
    rm -rf "$TLS_DIR"
    check "certificate: one is made where there is none" ends_saying 0 written tls_cert
    check "certificate: the key is its owner's alone" equal 600 "$(stat -c %a "$TLS_DIR/key.pem")"
    check "certificate: nothing else is left there" equal ".tls-cert.made cert.pem key.pem " "$(names_in "$TLS_DIR")"
    before=$(digests)
    check "certificate: it is kept" ends_saying 0 'is valid until' tls_cert
    check "certificate: it is the same" equal "$before" "$(digests)"
    age_certificate
    before=$(digests)
    check "certificate: its own that is about to expire is replaced" ends_saying 0 written tls_cert
    check "certificate: by another" test "$before" != "$(digests)"
    rm "$TLS_DIR/cert.pem"
    check "certificate: half of its own is made whole" ends_saying 0 written tls_cert
    check "certificate: both fit" equal "$(openssl x509 -in "$TLS_DIR/cert.pem" -noout -pubkey)" "$(openssl pkey -in "$TLS_DIR/key.pem" -pubout)"
}

# The file looks as if it had been made a year ago.
age_certificate() {
    openssl req -x509 -key "$TLS_DIR/key.pem" -days 3 -subj /CN=localhost -addext subjectAltName=DNS:localhost -out "$TLS_DIR/cert.pem" 2>/dev/null
    sha256sum <"$TLS_DIR/cert.pem" | cut -d ' ' -f 1 >>"$TLS_DIR/.tls-cert.made"
}

# others_certificate WHAT TEXT: it stays as it is, and tls-cert.sh is content.
others_certificate() {
    local before
    before=$(digests && find "$TLS_DIR" -printf '%P %m %l\n' | sort)
    check "$1: tls-cert.sh is content" ends_saying 0 'stays as it is' tls_cert
    check "$1: nothing has changed" equal "$before" "$(digests && find "$TLS_DIR" -printf '%P %m %l\n' | sort)"
}

test_others_certificates() {
    make_tls_dir
    cp "$RUN_DIR"/tls/*.pem "$TLS_DIR/"
    others_certificate "a real certificate"
    chmod 0640 "$TLS_DIR/key.pem"
    others_certificate "a real key of mode 0640"
    mkdir "$TLS_DIR/live"
    mv "$TLS_DIR/key.pem" "$TLS_DIR/live/privkey.pem"
    mv "$TLS_DIR/cert.pem" "$TLS_DIR/live/fullchain.pem"
    ln -s live/privkey.pem "$TLS_DIR/key.pem"
    ln -s live/fullchain.pem "$TLS_DIR/cert.pem"
    others_certificate "certbot's links"
    make_tls_dir
    openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost -addext subjectAltName=DNS:localhost \
        -keyout "$TLS_DIR/key.pem" -out "$TLS_DIR/cert.pem" 2>/dev/null
    others_certificate "one that expires tomorrow"
    rm "$TLS_DIR/cert.pem"
    check "a key without its certificate: tls-cert.sh says what is missing" ends_saying 1 'cert.pem is missing' tls_cert
    check "a key without its certificate: it is left" test -s "$TLS_DIR/key.pem"
    if ((EUID != 0)); then say "skipped a list of somebody else's: it needs root" && return 0; fi
    sha256sum <"$TLS_DIR/key.pem" | cut -d ' ' -f 1 >"$TLS_DIR/.tls-cert.made"
    chown nobody "$TLS_DIR/.tls-cert.made"
    check "a list of somebody else's says nothing" ends_saying 1 'cert.pem is missing' tls_cert
}

test_planted_links() {
    local victim="$RUN_DIR/victim" name
    echo precious >"$victim"
    for name in key.pem cert.pem .tls-cert.made; do
        make_tls_dir
        ln -s "$victim" "$TLS_DIR/$name"
        check "a planted link $name: tls-cert.sh doesn't go on" fails tls_cert
        check "a planted link $name: what it leads to is as it was" equal precious "$(cat "$victim")"
        rm "$victim" && check "a planted link $name that leads nowhere: the same" fails tls_cert
        check "a planted link $name that leads nowhere: nothing is made there" test ! -e "$victim"
        echo precious >"$victim"
    done
    make_tls_dir
    chmod 1777 "$TLS_DIR"
    for name in key.pem.new cert.pem.new; do ln -s "$victim" "$TLS_DIR/$name"; done
    check "planted links of other names: a certificate is made" ends_saying 0 written tls_cert
    check "planted links of other names: what they lead to is as it was" equal precious "$(cat "$victim")"
    make_tls_dir
    chmod 0777 "$TLS_DIR"
    check "a folder of everybody's: no key is made there" ends_saying 1 'every user may write' tls_cert
    check "a folder of everybody's: nothing is left there" equal "" "$(names_in "$TLS_DIR")"
}

test_removed_certificate() {
    make_tls_dir
    tls_cert >/dev/null
    echo mine >"$TLS_DIR/mine"
    cp "$RUN_DIR/tls/cert.pem" "$TLS_DIR/cert.pem"
    check "tls-cert.sh --remove" "$SCRIPTS_DIR/tls-cert.sh" --remove "$TLS_DIR"
    check "tls-cert.sh --remove leaves what it didn't make" equal "cert.pem mine " "$(names_in "$TLS_DIR")"
    make_tls_dir
    tls_cert >/dev/null
    check "tls-cert.sh --remove, with the folder where nothing is left" "$SCRIPTS_DIR/tls-cert.sh" --remove "$TLS_DIR"
    check "tls-cert.sh --remove: it is gone" test ! -e "$TLS_DIR"
}

main "$@"
