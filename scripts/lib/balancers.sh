# shellcheck shell=bash disable=SC2034  # HOLDERS is read by the scripts
# Balancers that send to the replicas, told in Consul's key-value store. A balancer holds a session and, by it, one key for each of
# its lists; a drain waits until no key names its replica. No clock is compared: what a balancer has seen is told by
# Consul's index, and the keys of one that died go with its session. Sourced after consul.sh, never run.
#
#   streamd/balancers/HOST-SUM/PLANE/SESSION = {"service": "file-server-tcp", "index": 123, "servers": ["192.0.2.10:8080"]}

BALANCERS_KEY=streamd/balancers
# Consul's least, and it waits for up to twice as long before it takes a session away.
BALANCER_SESSION_TTL=10s

# ---------------------------------------------------------------- telling

BALANCER_SESSION=
BALANCER_PUBLISHED=
BALANCER_IS_REFUSED=0

# balancer_publish PLANE SERVICE INDEX SERVER...: what Consul had changed up to INDEX is dealt with, and NGINX sends to
# these servers and to nobody else. Called in every round of a follower, since it also keeps the session alive.
balancer_publish() {
    local plane=$1 value
    value=$(jq -n -c --arg service "$2" --argjson index "$3" '$ARGS.positional as $servers |
        {$service, $index, $servers}' --args "${@:4}") || return 1
    if balancer_keep_session "$plane" && balancer_write "$plane" "$value"; then
        BALANCER_IS_REFUSED=0
        return 0
    fi
    if [[ $API_STATUS == 4* ]] && ((!BALANCER_IS_REFUSED)); then
        BALANCER_IS_REFUSED=1
        log "replicas that stop won't wait for this NGINX to drop them: $(api_error)"
    fi
    return 1
}

# The end of a follower: nobody looks after this NGINX any more, and replicas that stop must not wait for it.
balancer_withdraw() {
    if [[ -n $BALANCER_SESSION ]]; then
        consul_api PUT "/v1/session/destroy/$BALANCER_SESSION" || true
        rm -f "$(balancer_session_file "$1")"
    fi
    BALANCER_SESSION='' BALANCER_PUBLISHED=''
}

balancer_keep_session() {
    if [[ -z $BALANCER_SESSION ]]; then
        balancer_end_predecessor "$1"
    elif consul_api PUT "/v1/session/renew/$BALANCER_SESSION"; then
        return 0
    elif [[ $API_STATUS != 404 ]]; then
        return 1
    fi
    balancer_begin_session "$1"
}

# No health check ends it, as the agent's own does by default: an agent that restarts would end all sessions. No delay
# before the key may be had again: nobody else has its name.
balancer_begin_session() {
    local file
    file=$(balancer_session_file "$1")
    BALANCER_SESSION='' BALANCER_PUBLISHED=''
    consul_api PUT /v1/session/create "$(jq -n -c --arg ttl "$BALANCER_SESSION_TTL" --arg name "$(balancer_key "$1")" \
        '{Name: $name, TTL: $ttl, Behavior: "delete", LockDelay: "0s", Checks: [], NodeChecks: []}')" || return 1
    BALANCER_SESSION=$(jq -r '.ID | strings' <<<"$API_BODY" 2>/dev/null) || true
    if ! is_session_id "$BALANCER_SESSION"; then
        BALANCER_SESSION=
        return 1
    fi
    # A key that can't be kept costs a drain some seconds after this follower was killed, and nothing else.
    { (umask 077 && printf '%s\n' "$BALANCER_SESSION" >"$file.new") && mv -f "$file.new" "$file"; } 2>/dev/null || true
}

# A follower that was killed leaves a session, which would name what it last sent to for up to 20 s more.
balancer_end_predecessor() {
    local file session
    file=$(balancer_session_file "$1")
    { read -r session <"$file"; } 2>/dev/null || return 0
    if is_session_id "$session"; then consul_api PUT "/v1/session/destroy/$session" || true; fi
    rm -f "$file"
}

balancer_write() {
    [[ $2 != "$BALANCER_PUBLISHED" ]] || return 0
    consul_api PUT "/v1/kv/$(balancer_key "$1")/$BALANCER_SESSION?acquire=$BALANCER_SESSION" "$2" || return 1
    [[ $API_BODY == true* ]] && BALANCER_PUBLISHED=$2
}

# One for each list of each NGINX of each host. Its end is the session's ID, so that two hosts of one name share none.
balancer_key() {
    local sum
    sum=$(cksum <<<"$UPSTREAMS_DIR")
    printf '%s/%s-%s/%s' "$BALANCERS_KEY" "${HOSTNAME//[^0-9A-Za-z.-]/_}" "${sum%% *}" "$1"
}

balancer_session_file() { printf '%s/.%s.session' "$UPSTREAMS_DIR" "$1"; }

is_session_id() { [[ $1 =~ ^[0-9a-f-]{36}$ ]]; }

# ---------------------------------------------------------------- asking

# Lists who still sends to a service, or may.
HOLDERS=()

# holders_of NAME ID SERVER: sets HOLDERS to who still has the service ID, which is NAME at SERVER (ADDRESS:PORT): Consul
# itself while it calls it healthy, and each live balancer that sends to it, or that has not yet seen it leave. Fails
# where Consul doesn't tell; api_error then says why.
holders_of() {
    local state index holders
    HOLDERS=()
    consul_api GET "/v1/health/service/$1" || return 1
    state=$(jq -r --arg id "$2" "$JQ_STATE_IN_CONSUL" <<<"$API_BODY" 2>/dev/null) || odd_answer || return 1
    index=${state#* }
    if [[ $state == passing* ]]; then HOLDERS+=("Consul:$2"); fi
    if ! consul_api GET "/v1/kv/$BALANCERS_KEY/?recurse"; then
        # 404: no balancer tells anything.
        [[ $API_STATUS == 404 ]]
        return
    fi
    holders=$(jq -r --arg service "$1" --arg server "$3" --argjson index "$index" \
        "$JQ_BALANCERS | $JQ_BALANCERS_HOLDING" <<<"$API_BODY" 2>/dev/null) || odd_answer || return 1
    [[ -z $holders ]] || mapfile -t -O "${#HOLDERS[@]}" HOLDERS <<<"$holders"
}

# balancer_is_live PLANE: whether the follower of this host's list holds its key. Fails where Consul doesn't tell.
balancer_is_live() {
    consul_api GET "/v1/kv/$(balancer_key "$1")/?recurse" || return 1
    [[ -n $(jq -r "$JQ_BALANCERS | .key" <<<"$API_BODY" 2>/dev/null) ]]
}

odd_answer() {
    API_STATUS=200 API_BODY='what is not an answer of its API'
    return 1
}

# "passing 0", or "gone INDEX" with the index at which its maintenance was set, which a balancer must have seen.
# shellcheck disable=SC2016  # variables of jq
JQ_STATE_IN_CONSUL='
    [.[] | select(.Service.ID == $id) | .Checks] | (.[0] // [{Status: "absent"}]) as $checks
    | if all($checks[]; .Status == "passing") then "passing 0"
      else "gone \([$checks[] | select(.CheckID == "_service_maintenance:\($id)") | .ModifyIndex | numbers] | max // 0)"
      end'

# Of all keys those that a live session holds and that read as above. Each is judged alone: whatever else lies there says
# nothing of a balancer. A key may have been named by anybody, so that it is printed without its control characters.
# shellcheck disable=SC2016
JQ_BALANCERS='
    if type == "array" then .[] else error("no list of keys") end
    | select(type == "object" and (.Session | type) == "string" and (.Key | type) == "string")
    | {key: (.Key | gsub("[^!-~]"; "?")), value: (try (.Value | @base64d | fromjson) catch null)}
    | select((.value | type) == "object" and (.value.service | type) == "string"
             and (.value.servers | type) == "array" and (.value.index | type) == "number" and .value.index >= 0)'

# shellcheck disable=SC2016
JQ_BALANCERS_HOLDING='
    select(.value.service == $service and (.value.index < $index or any(.value.servers[]; . == $server))) | .key'
