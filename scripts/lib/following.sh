# shellcheck shell=bash disable=SC2034,SC2153,SC2154  # settings of nginx-upstreams.sh
# One follower: asks Consul, has the list put in place, and tells what came of it. Needs messages.sh, waiting.sh,
# signals.sh, consul.sh, balancers.sh, lists.sh, entries.sh, installing.sh and alarm.sh, and the settings UPSTREAMS_DIR and SERVICES.

# Consul holds a query this long at most, plus a sixteenth of jitter. An agent that lost its state between two queries
# counts its index from the start again and holds a query whose index is ahead of it to the end, whatever changes: that
# long a list may be old. And each round renews the balancer's session.
BLOCK_SECONDS=5
# An agent that holds a query for longer than this hangs.
QUERY_SECONDS_MAX=10
# Changes are gathered for this long at least: one reload a second, however much services flap.
CHANGE_INTERVAL_SECONDS=1
BACKOFF_SECONDS_MAX=10
# Thousands of times what 256 servers take.
ANSWER_KIB_MAX=65536
# At the end nobody waits long for an agent that hangs.
CONSUL_END_TIMEOUT_S=2

# follow PLANE: until it is told to end, or its parent has gone, which can't tell it any more.
follow() {
    local plane=$1 index=0 backoff=1 parent=$$ looked=-
    heed_signals
    write_list_state "$plane" "$UPSTREAMS_DIR" - "$BASHPID" "its follower has just begun"
    while is_wanted "$parent"; do
        remove_old_answers "$plane"
        if query "$plane" "$index" && read_entries "$plane"; then
            is_wanted "$parent" || break
            ((backoff == 1)) || log "$plane.conf follows Consul again"
            backoff=1
            index=$(next_index "$index" "$QUERY_INDEX")
            take_list "$plane"
            take_uptime
            looked=$((UPTIME_CS / 100))
            tell "$plane" "$looked"
            pause_or_told "$CHANGE_INTERVAL_SECONDS"
        elif is_wanted "$parent"; then
            ((backoff != 1)) || log "$plane.conf stays as it is: $QUERY_ERROR"
            write_list_state "$plane" "$UPSTREAMS_DIR" "$looked" "$BASHPID" "$QUERY_ERROR"
            index=0
            pause_or_told "$backoff"
            backoff=$((backoff * 2 > BACKOFF_SECONDS_MAX ? BACKOFF_SECONDS_MAX : backoff * 2))
        fi
    done
    CONSUL_TIMEOUT_S=$CONSUL_END_TIMEOUT_S
    balancer_withdraw "$plane"
    remove_old_answers "$plane"
    write_list_state "$plane" "$UPSTREAMS_DIR" - "$BASHPID" "its follower has ended"
    exit 0
}

# An index that went backwards means a Consul with a new history: begin anew. Zero would not block.
next_index() {
    if (($2 < $1)); then
        printf '0'
    else
        printf '%d' "$(($2 > 0 ? $2 : 1))"
    fi
}

# ---------------------------------------------------------------- a list

IS_EMPTY_SAID=0
LIST_FAULT_SAID=

# take_list PLANE: what was read goes to NGINX. Each fault and its end are said once.
take_list() {
    LIST_FAULT=
    if ((${#SERVERS[@]})); then
        IS_EMPTY_SAID=0
        install_list "$1" "${SERVERS[@]}"
    elif ((!IS_EMPTY_SAID)); then
        IS_EMPTY_SAID=1
        log "no instance of ${SERVICES[$1]} passes: $1.conf stays as it is"
    fi
    name_refused "$1"
    [[ $LIST_FAULT != "$LIST_FAULT_SAID" ]] || return 0
    log "$1.conf ${LIST_FAULT:-can change again}"
    LIST_FAULT_SAID=$LIST_FAULT
}

# tell PLANE LOOKED: whether the list follows, beside it and in Consul, and to which servers NGINX sends.
tell() {
    local plane=$1 servers
    mapfile -t servers < <(servers_in_force "$plane")
    write_list_state "$plane" "$UPSTREAMS_DIR" "$2" "$BASHPID" "$LIST_FAULT"
    balancer_publish "$plane" "${SERVICES[$plane]}" "$QUERY_INDEX" "${servers[@]}"
    alarm_tell "$plane" "$LIST_FAULT" "${#servers[@]} servers, ${#REFUSED[@]} entries refused"
}

# ---------------------------------------------------------------- Consul

QUERY_ANSWER=
QUERY_INDEX=
QUERY_ERROR=

# query PLANE INDEX: sets QUERY_ANSWER, a file, and QUERY_INDEX, or QUERY_ERROR. Index 0 answers at once. In the
# background, so that a signal ends the wait and curl with it.
query() {
    local service=${SERVICES[$1]} index=$2 status=0
    QUERY_ANSWER="$UPSTREAMS_DIR/.$1.answer.$BASHPID"
    (
        trap - TERM
        # A write beyond the limit fails instead of ending curl by a signal.
        trap '' XFSZ
        ulimit -f "$ANSWER_KIB_MAX"
        consul_curl_exec "/v1/health/service/$service?passing&index=$index&wait=${BLOCK_SECONDS}s" -sS -f \
            --max-time "$QUERY_SECONDS_MAX" -D "$QUERY_ANSWER.head" -o "$QUERY_ANSWER.body" 2>"$QUERY_ANSWER.error"
    ) 2>/dev/null &
    wait_or_told "$!" || status=$?
    # Told to end: nothing may be written any more when the answer is removed.
    if ((IS_STOPPING)); then kill "$!" && wait "$!"; fi 2>/dev/null
    read_head "$status"
}

# read_head STATUS: of curl. On failure the answer is removed.
read_head() {
    local head=
    QUERY_ERROR=
    { head=$(<"$QUERY_ANSWER.head"); } 2>/dev/null
    if (($1 != 0)); then
        QUERY_ERROR="Consul at $(consul_shown): $(masked "$(said_by_curl "$1")")"
    elif [[ ! $head =~ ^HTTP/[0-9.]+\ 200 ]]; then
        QUERY_ERROR="what answers at $(consul_shown) is not Consul's health API: check CONSUL_HTTP_ADDR"
    else
        QUERY_INDEX=$(printf '%s\n' "$head" | sed -n 's/^X-Consul-Index: *0*\([0-9]\{1,18\}\).*/\1/Ip' | head -n 1)
        [[ -n $QUERY_INDEX ]] || QUERY_ERROR="an answer of $(consul_shown) has no index: check CONSUL_HTTP_ADDR"
    fi
    [[ -n $QUERY_ERROR ]] || return 0
    remove_answer
    return 1
}

# said_by_curl STATUS: its first line, where the disk had room for it.
said_by_curl() {
    local line=
    { read -r line <"$QUERY_ANSWER.error"; } 2>/dev/null
    # curl(1): 23 is a write error.
    if (($1 == 23)); then line="its answer can't be written to $UPSTREAMS_DIR: is the disk full?"; fi
    printf '%s' "${line:-curl ended with $1}"
}

# read_entries PLANE: judges the answer; fails with QUERY_ERROR where it isn't a list of entries.
read_entries() {
    local status=0
    judge "$1" "$QUERY_ANSWER.body" || status=1
    remove_answer
    ((status == 0)) || QUERY_ERROR="what answers at $(consul_shown) is not Consul's health API: check CONSUL_HTTP_ADDR"
    return "$status"
}

# Removes files of predecessors that were killed. A curl outlives the follower that began it, and writes what it was waiting for
# into a file that nobody knows of: so not at the beginning alone.
remove_old_answers() {
    local file pid
    for file in "$UPSTREAMS_DIR/.$1.answer."*; do
        [[ -e $file ]] || continue
        pid=${file#*.answer.}
        if [[ ! -d /proc/${pid%%.*} ]]; then rm -f "$file"; fi
    done
}

remove_answer() { rm -f "$QUERY_ANSWER".{head,body,error}; }
