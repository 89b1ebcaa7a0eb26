#!/usr/bin/env bash
# Keeps NGINX's upstream lists equal to the healthy replicas that Consul knows: control.conf from
# file-server-http, data.conf from file-server-tcp. Follows changes with blocking queries; writes a
# list and reloads NGINX only when it changed and `nginx -t` accepts it. A list is never emptied: when
# no instance passes, the last good one stays, since a replica that may answer beats none. What is in force
# is told in Consul's key-value store: there a replica that is about to stop sees whether it still gets traffic.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=lib-consul.sh
source "$SCRIPTS_DIR/lib-consul.sh"

usage() {
    cat <<'USAGE'
usage: nginx-upstreams.sh [--once] [--dir DIR] [--conf FILE] [--prefix DIR]

  --once        write both lists as Consul sees them now and end; 1 when a list would be empty
                and there is no earlier one
  --dir DIR     where control.conf and data.conf are kept    run/nginx/upstreams
  --conf FILE   configuration of the NGINX to reload         run/nginx/nginx.conf
  --prefix DIR  prefix of that NGINX (nginx -p)              the folder of FILE
Away from the repository the defaults are /etc/nginx/upstreams and /etc/nginx/nginx.conf.

environment: CONSUL_HTTP_ADDR (127.0.0.1:8500), CONSUL_HTTP_TOKEN, RUN_DIR
A token must be allowed to read the two services, and to write the keys below streamd/balancers.
USAGE
}

declare -A SERVICES=([control]=file-server-http [data]=file-server-tcp)

# Consul holds a query this long at most, plus a sixteenth of jitter. An agent that lost its state
# between two queries counts its index from the start again and holds a query whose index is ahead of
# it to the end, whatever changes: that long a list may be old.
BLOCK_SECONDS=10
# Changes are gathered for this long at least: one reload a second, however much services flap.
CHANGE_INTERVAL_SECONDS=1
BACKOFF_SECONDS_MAX=10
# More instances than this behind one NGINX mean that something registers wildly.
SERVERS_MAX=256
# A master starts new workers and tells the old ones to quit within milliseconds; a busy host takes longer.
RELOAD_SECONDS=5

ONCE=0
UPSTREAMS_DIR="$NGINX_DIR/upstreams"
NGINX_CONF="$NGINX_DIR/nginx.conf"
NGINX_PREFIX=

main() {
    parse_arguments "$@"
    mkdir -p "$UPSTREAMS_DIR" || die "can't create $UPSTREAMS_DIR: choose another --dir"
    if ((ONCE)); then
        render_once
    else
        follow_all
    fi
}

parse_arguments() {
    while (($#)); do
        case $1 in
            -h | --help) usage && exit 0 ;;
            --once) ONCE=1 ;;
            --dir | --conf | --prefix)
                take_path "$@"
                shift
                ;;
            *) die_usage "unknown argument \"$1\"" ;;
        esac
        shift
    done
    NGINX_PREFIX=${NGINX_PREFIX:-$(dirname "$NGINX_CONF")}
}

take_path() {
    [[ -n ${2:-} ]] || die_usage "$1 needs a path"
    local path
    path=$(realpath -m "$2")
    case $1 in
        --dir) UPSTREAMS_DIR=$path ;;
        --conf) NGINX_CONF=$path ;;
        --prefix) NGINX_PREFIX=$path ;;
    esac
}

# ---------------------------------------------------------------- once

render_once() {
    local plane
    for plane in control data; do
        query "$plane" 0 || die "$QUERY_ERROR"
        render "$plane" >"$UPSTREAMS_DIR/$plane.once"
        if [[ -s $UPSTREAMS_DIR/$plane.once ]]; then
            mv "$UPSTREAMS_DIR/$plane.once" "$UPSTREAMS_DIR/$plane.next"
            continue
        fi
        rm -f "$UPSTREAMS_DIR/$plane.once"
        [[ -s $UPSTREAMS_DIR/$plane.conf ]] ||
            die "no instance of ${SERVICES[$plane]} passes its checks in Consul: nothing to write to $plane.conf"
        log "no instance of ${SERVICES[$plane]} passes: $plane.conf stays as it was"
    done
    with_lock install_lists control data || exit 1
}

# ---------------------------------------------------------------- following

FOLLOWERS=()

# One follower per list: a blocking query watches one service.
follow_all() {
    trap 'stop_followers; exit 0' TERM INT
    local plane
    # Answers of a predecessor that was killed; none takes this long.
    find "$UPSTREAMS_DIR" -maxdepth 1 -name '.*.answer.*' -mmin +10 -delete
    for plane in control data; do
        follow "$plane" &
        FOLLOWERS+=("$!")
    done
    # None ends by itself: if one does, its list would silently grow old.
    wait -n || true
    stop_followers
    die "a follower ended by itself: see the line above, and start this script again"
}

stop_followers() {
    trap '' TERM INT
    kill "${FOLLOWERS[@]}" 2>/dev/null || true
    wait
    # Nobody looks after this NGINX any more: replicas that stop must not wait for it.
    consul_api DELETE "/v1/kv/$(balancer_key)/?recurse" || true
}

follow() {
    local plane=$1 index=0 backoff=1
    trap 'end_pause; end_query; exit 0' TERM INT
    while true; do
        if query "$plane" "$index"; then
            [[ $backoff == 1 ]] || log "$plane.conf follows Consul again"
            backoff=1
            index=$(next_index "$index" "$QUERY_INDEX")
            take "$plane"
            tell "$plane"
            pause "$CHANGE_INTERVAL_SECONDS"
        else
            [[ $backoff != 1 ]] || log "$plane.conf stays as it is: $QUERY_ERROR"
            index=0
            pause "$backoff"
            backoff=$((backoff * 2 > BACKOFF_SECONDS_MAX ? BACKOFF_SECONDS_MAX : backoff * 2))
        fi
    done
}

# An index that went backwards means a Consul with a new history: begin anew. Zero would not block.
next_index() {
    local last=$1 now=$2
    if ((now < last)); then
        printf '0'
    else
        printf '%d' "$((now > 0 ? now : 1))"
    fi
}

EMPTY_SAID=0

take() {
    local plane=$1 next="$UPSTREAMS_DIR/$1.next"
    render "$plane" >"$next.$BASHPID"
    if [[ ! -s $next.$BASHPID ]]; then
        rm -f "$next.$BASHPID"
        ((EMPTY_SAID)) || log "no instance of ${SERVICES[$plane]} passes: $plane.conf stays as it is"
        EMPTY_SAID=1
        return 0
    fi
    EMPTY_SAID=0
    mv "$next.$BASHPID" "$next"
    IS_IN_FORCE=1
    with_lock install_lists "$plane" || IS_IN_FORCE=0
}

# ---------------------------------------------------------------- telling

# Whether NGINX sends to the servers of the list, as far as can be seen.
IS_IN_FORCE=1
TOLD=
TOLD_AT=0
IS_TELLING_REFUSED=0

# Tells which servers NGINX sends to, when that changed and now and then as a sign of life.
tell() {
    local servers
    ((IS_IN_FORCE)) && [[ -s $UPSTREAMS_DIR/$1.conf ]] || return 0
    servers=$(servers_in "$UPSTREAMS_DIR/$1.conf")
    if [[ $servers == "$TOLD" ]] && ((EPOCHSECONDS - TOLD_AT < BALANCER_TELL_SECONDS)); then return 0; fi
    if consul_api PUT "/v1/kv/$(balancer_key)/$1" \
        "$(jq -n --arg servers "$servers" '{time: (now | floor), servers: ($servers | split(" "))}')"; then
        TOLD=$servers TOLD_AT=$EPOCHSECONDS IS_TELLING_REFUSED=0
    elif [[ $API_STATUS == 4* ]] && ((!IS_TELLING_REFUSED)); then
        IS_TELLING_REFUSED=1
        log "replicas that stop won't wait for this NGINX to drop them: $(api_error)"
    fi
}

# One for each NGINX of each host.
balancer_key() {
    local directory_sum
    directory_sum=$(cksum <<<"$UPSTREAMS_DIR")
    printf '%s/%s-%s' "$BALANCERS_KEY" "${HOSTNAME//[^0-9A-Za-z.-]/_}" "${directory_sum%% *}"
}

# ---------------------------------------------------------------- Consul

QUERY_PID=
QUERY_BODY=
QUERY_INDEX=
QUERY_ERROR=

# query PLANE INDEX: sets QUERY_BODY and QUERY_INDEX, or QUERY_ERROR. Index 0 answers at once. In the
# background, so that a signal ends the wait and curl with it.
query() {
    local service=${SERVICES[$1]} index=$2 answer="$UPSTREAMS_DIR/.$1.answer.$BASHPID" status=0
    curl -sS -f -K <(consul_curl_config) --max-time "$((BLOCK_SECONDS + BLOCK_SECONDS / 16 + 10))" \
        -D "$answer.head" -o "$answer.body" \
        "$(consul_url)/v1/health/service/$service?passing&index=$index&wait=${BLOCK_SECONDS}s" 2>"$answer.error" &
    QUERY_PID=$!
    wait "$QUERY_PID" || status=$?
    QUERY_PID=
    read_answer "$answer" "$status" || status=1
    rm -f "$answer".{head,body,error}
    return "$status"
}

end_query() {
    if [[ -n $QUERY_PID ]]; then kill "$QUERY_PID" 2>/dev/null || true; fi
    rm -f "$UPSTREAMS_DIR"/.*.answer."$BASHPID".{head,body,error}
}

read_answer() {
    local answer=$1 status=$2
    if ((status != 0)); then
        QUERY_ERROR="Consul at $(consul_url): $(head -n 1 "$answer.error")"
        return 1
    fi
    QUERY_BODY=$(<"$answer.body")
    QUERY_INDEX=$(sed -n 's/^X-Consul-Index: *\([0-9]\{1,18\}\).*/\1/Ip' "$answer.head" | head -n 1)
    if [[ -z $QUERY_INDEX ]] || ! jq -e 'type == "array"' <<<"$QUERY_BODY" >/dev/null 2>&1; then
        QUERY_ERROR="what answers at $(consul_url) is not Consul's health API: check CONSUL_HTTP_ADDR"
        return 1
    fi
}

# One line per instance, sorted. Consul judges health, so NGINX must not judge as well: max_fails=0,
# else a few errors would mark all servers failed and answer 502 without asking one. Addresses come
# from whoever may register: anything but an address or a host name is left out.
render() {
    jq -r --argjson max "$SERVERS_MAX" '
        [.[] | {address: (if .Service.Address != "" then .Service.Address else .Node.Address end),
                port: .Service.Port}]
        | map(select((.address | type == "string" and test("^[0-9A-Za-z]([0-9A-Za-z.:-]{0,252})$"))
                     and (.port | type == "number" and . >= 1 and . <= 65535)))
        | map(if (.address | contains(":")) then .address = "[\(.address)]" else . end)
        | unique | .[:$max][] | "server \(.address):\(.port) max_fails=0;"' <<<"$QUERY_BODY" | sort -V
}

# ---------------------------------------------------------------- NGINX

# The followers, and a --once beside them, change files and reload one at a time.
with_lock() {
    local status=0
    exec 8>"$UPSTREAMS_DIR/.lock"
    flock 8
    "$@" 8>&- || status=$?
    exec 8>&-
    return "$status"
}

# install_lists PLANE...: puts the .next files in place if they differ and NGINX accepts them.
install_lists() {
    local plane changed=()
    for plane in "$@"; do
        # Left by an installation that was cut off: the list in place may be an untested one.
        if [[ -f $UPSTREAMS_DIR/$plane.last ]]; then swap_back "$plane"; fi
        [[ -f $UPSTREAMS_DIR/$plane.next ]] || continue
        if cmp -s "$UPSTREAMS_DIR/$plane.next" "$UPSTREAMS_DIR/$plane.conf"; then
            rm -f "$UPSTREAMS_DIR/$plane.next"
        else
            changed+=("$plane")
        fi
    done
    if ((${#changed[@]} == 0)); then
        if ((IS_RELOAD_DUE)); then reload_nginx; fi
        return
    fi
    for plane in "${changed[@]}"; do swap_in "$plane"; done
    if ! nginx_accepts; then
        for plane in "${changed[@]}"; do swap_back "$plane"; done
        return 1
    fi
    for plane in "${changed[@]}"; do
        rm -f "$UPSTREAMS_DIR/$plane.last"
        log "$plane.conf: $(servers_in "$UPSTREAMS_DIR/$plane.conf")"
    done
    reload_nginx
}

swap_in() {
    local list="$UPSTREAMS_DIR/$1"
    rm -f "$list.last"
    if [[ -f $list.conf ]]; then cp -p "$list.conf" "$list.last"; fi
    mv "$list.next" "$list.conf"
}

swap_back() {
    local list="$UPSTREAMS_DIR/$1"
    if [[ -f $list.last ]]; then mv "$list.last" "$list.conf"; else rm -f "$list.conf"; fi
}

servers_in() { sed -n 's/^server \([^ ;]*\).*/\1/p' "$1" | paste -s -d ' '; }

# A list may be written before there is a configuration, or before the other list is there: what can't
# be tested yet is accepted, since no running NGINX depends on it.
nginx_accepts() {
    [[ -f $NGINX_CONF && -f $UPSTREAMS_DIR/control.conf && -f $UPSTREAMS_DIR/data.conf ]] || return 0
    local output
    if output=$(nginx -t -p "$NGINX_PREFIX" -c "$NGINX_CONF" 2>&1); then return 0; fi
    output=$(grep -m 1 -F '[emerg]' <<<"$output" || head -n 1 <<<"$output")
    log "nginx -t refuses the new list, the old one stays: $output"
    return 1
}

# Whether the last reload failed: then the next round tries again, and says nothing more.
IS_RELOAD_DUE=0

# Succeeds when the list is in force: the workers that had the old one accept nothing any more.
reload_nginx() {
    local output workers fault=
    mapfile -t workers < <(accepting_workers)
    if ! output=$(nginx -s reload -p "$NGINX_PREFIX" -c "$NGINX_CONF" 2>&1); then
        case $output in
            *'No such file or directory'* | *'invalid PID'*)
                log 'NGINX does not run: it takes the list when it starts'
                ;;
            *) fault="nginx -s reload failed: $(tail -n 1 <<<"$output")" ;;
        esac
    elif ((${#workers[@]} == 0)); then
        # They can't be seen from here.
        pause 1
    elif ! wait_for "$RELOAD_SECONDS" have_quit "${workers[@]}"; then
        fault="NGINX works with the old list $RELOAD_SECONDS s after its reload: see its error log"
    fi
    if [[ -n $fault ]] && ((!IS_RELOAD_DUE)); then log "$fault; trying again"; fi
    if [[ -n $fault ]]; then IS_RELOAD_DUE=1; else IS_RELOAD_DUE=0; fi
    ((!IS_RELOAD_DUE))
}

# Prints the workers that take new connections. Those that finish what they have carry another title.
accepting_workers() {
    local master pid children=()
    { read -r master <"$(pid_file)"; } 2>/dev/null || return 0
    # proc(5): one line, which no line feed ends.
    { read -ra children <"/proc/$master/task/$master/children"; } 2>/dev/null || true
    for pid in "${children[@]}"; do
        if is_accepting "$pid"; then say "$pid"; fi
    done
}

is_accepting() {
    local title
    { title=$(tr '\0' ' ' <"/proc/$1/cmdline"); } 2>/dev/null || return 1
    [[ $title == 'nginx: worker process'* && $title != *'shutting down'* ]]
}

have_quit() {
    local pid
    for pid in "$@"; do
        if is_accepting "$pid"; then return 1; fi
    done
}

pid_file() {
    local path
    path=$(sed -n 's/^ *pid  *"\{0,1\}\([^";]*\).*/\1/p' "$NGINX_CONF" | head -n 1)
    if [[ $path == /* ]]; then printf '%s' "$path"; else printf '%s/%s' "$NGINX_PREFIX" "${path:-logs/nginx.pid}"; fi
}

main "$@"
