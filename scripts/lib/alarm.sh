# shellcheck shell=bash disable=SC2153  # settings of nginx-upstreams.sh
# The silence of a follower as an alarm in Consul: a service nginx-upstreams, whose checks, one for each list, turn
# critical when their follower hasn't said for 30 s that the list follows. Needs messages.sh, waiting.sh and consul.sh,
# and the setting UPSTREAMS_DIR.

ALARM_SERVICE=nginx-upstreams
ALARM_TTL=30s
# Several times within that.
ALARM_INTERVAL_SECONDS=5

ALARM_TOLD=
ALARM_TOLD_AT_CS=0
ALARM_IS_REFUSED=0

# alarm_tell PLANE FAULT NOTE: the list follows Consul, unless FAULT says why not. Now and then, and when it changes.
alarm_tell() {
    local status=passing id
    [[ -z $2 ]] || status=critical
    take_uptime
    if [[ $status$2 == "$ALARM_TOLD" ]] && ((UPTIME_CS - ALARM_TOLD_AT_CS < ALARM_INTERVAL_SECONDS * 100)); then return 0; fi
    id=$(alarm_id)
    if alarm_update "$id" "$1" "$status" "${2:-$3}" ||
        { alarm_is_unknown && alarm_register "$id" "$1" "$status" && alarm_update "$id" "$1" "$status" "${2:-$3}"; }; then
        ALARM_TOLD=$status$2 ALARM_TOLD_AT_CS=$UPTIME_CS ALARM_IS_REFUSED=0
    elif [[ $API_STATUS == 4* ]] && ((!ALARM_IS_REFUSED)); then
        ALARM_IS_REFUSED=1
        log "Consul can't tell when the lists stop following: $(api_error)"
    fi
}

# The end that was asked for: nobody is to be called.
alarm_end() { consul_api PUT "/v1/agent/service/deregister/$(alarm_id)"; }

alarm_update() {
    consul_api PUT "/v1/agent/check/update/$1-$2" \
        "$(jq -n -c --arg status "$3" --arg output "$4" '{Status: $status, Output: $output}')"
}

# 404, or 500 before Consul 1.11: the agent has forgotten it, or never knew.
alarm_is_unknown() { [[ $API_STATUS == 404 || $API_STATUS == 500 ]]; }

# alarm_register ID PLANE STATUS: a check begins critical unless it is told otherwise. That of the other list stays as it is.
alarm_register() {
    consul_api PUT /v1/agent/service/register "$(jq -n -c --arg id "$1" --arg name "$ALARM_SERVICE" \
        '{ID: $id, Name: $name, Tags: ["nginx", "streamd"]}')" &&
        consul_api PUT /v1/agent/check/register "$(jq -n -c --arg service "$1" --arg plane "$2" --arg ttl "$ALARM_TTL" --arg status "$3" \
            '{ID: "\($service)-\($plane)", Name: "\($plane).conf follows Consul", ServiceID: $service, TTL: $ttl, Status: $status}')"
}

# One for each NGINX of each host.
alarm_id() {
    local sum
    sum=$(printf '%s\n' "$UPSTREAMS_DIR" | cksum)
    printf '%s-%s-%s' "$ALARM_SERVICE" "${HOSTNAME//[^0-9A-Za-z.-]/_}" "${sum%% *}"
}
