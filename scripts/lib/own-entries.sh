# shellcheck shell=bash
# Which entries of Consul are the stack's own: anybody may register under the names of its services. Needs settings.sh,
# consul.sh and alarm.sh, and the setting UPSTREAMS_DIR.

# own_ids NAME: prints the IDs that the stack registers for a service.
own_ids() {
    local i
    case $1 in
        file-server-http) for ((i = 1; i <= REPLICAS; i++)); do say "$1-127.0.0.$i-$CONTROL_PORT"; done ;;
        file-server-tcp) for ((i = 1; i <= REPLICAS; i++)); do say "$1-127.0.0.$i-$DATA_PORT"; done ;;
        nginx) say "$1-127.0.0.1-$HTTP_PORT" ;;
        "$ALARM_SERVICE") alarm_id ;;
    esac
}

# own_that_pass NAME: prints how many of them pass.
own_that_pass() {
    consul_api GET "/v1/health/service/$1?passing" || return 1
    jq --arg own "$(own_ids "$1")" '[.[].Service.ID] as $passing | [$own | split("\n")[] | . as $id |
        select(any($passing[]; . == $id))] | length' <<<"$API_BODY"
}

all_own_pass() { [[ $(own_that_pass "$1") == "$(own_ids "$1" | wc -w)" ]]; }
