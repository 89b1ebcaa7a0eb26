# shellcheck shell=bash disable=SC2034  # some of what is set here is read by the scripts
# Finding Consul and talking to its API. Sourced after lib.sh, never run.
#
#   CONSUL_HTTP_ADDR   address of the agent       http://127.0.0.1:$CONSUL_HTTP_PORT
#   CONSUL_HTTP_TOKEN  ACL token, where ACLs are on

# The oldest Consul whose API these scripts were written for.
CONSUL_VERSION_MIN=1.8.0
# An agent on the same host answers in milliseconds; this only bounds a stuck one.
CONSUL_TIMEOUT_S=5
# nginx-upstreams.sh keeps below this key which servers each NGINX sends to, and consul-register.sh waits
# until its own are gone from there. Told anew every 20 s at most; older than a minute, its teller has died.
BALANCERS_KEY=streamd/balancers
BALANCER_TELL_SECONDS=20
BALANCER_AGE_SECONDS_MAX=60

# ---------------------------------------------------------------- the program

# Prints the path of a Consul that is new enough; fails when there is none.
consul_path() {
    local candidate
    for candidate in "$(command -v consul || true)" "$DEPS_DIR/consul/usr/bin/consul"; do
        if [[ -x $candidate ]] && consul_is_new_enough "$candidate"; then
            printf '%s' "$candidate"
            return 0
        fi
    done
    return 1
}

# Prints the version as 1.8.7.
consul_version() { "$1" version 2>/dev/null | sed -n '1s/^Consul v\([0-9][0-9.]*\).*/\1/p'; }

consul_is_new_enough() {
    local version
    version=$(consul_version "$1")
    [[ -n $version ]] && version_at_least "$version" "$CONSUL_VERSION_MIN"
}

# version_at_least VERSION MINIMUM
version_at_least() { printf '%s\n%s\n' "$2" "$1" | sort -C -V; }

# ---------------------------------------------------------------- the API

consul_url() {
    local url=${CONSUL_HTTP_ADDR:-http://127.0.0.1:${CONSUL_HTTP_PORT:-8500}}
    [[ $url != unix://* ]] || die "CONSUL_HTTP_ADDR is $url: give the agent's HTTP address instead"
    [[ $url == *://* ]] || url="http://$url"
    printf '%s' "${url%/}"
}

# Options of curl that must not be seen in the process list: the token.
consul_curl_config() {
    if [[ -n ${CONSUL_HTTP_TOKEN:-} ]]; then
        printf 'header = "X-Consul-Token: %s"\n' "$CONSUL_HTTP_TOKEN"
    fi
}

# consul_api METHOD PATH [JSON]: sets API_BODY and API_STATUS; succeeds on 2xx. When the agent can't be
# reached, API_STATUS is 000 and API_BODY says why.
consul_api() {
    local method=$1 path=$2 answer data=()
    if (($# > 2)); then data=(--data-binary "$3"); fi
    if ! answer=$(curl -sS -X "$method" --max-time "$CONSUL_TIMEOUT_S" -K <(consul_curl_config) \
        "${data[@]}" -w '\n%{http_code}' "$(consul_url)$path" 2>&1); then
        API_STATUS=000 API_BODY=${answer%%$'\n'*}
        return 1
    fi
    API_STATUS=${answer##*$'\n'} API_BODY=${answer%$'\n'*}
    [[ $API_STATUS == 2* ]]
}

# Why the last consul_api failed, on one line.
api_error() {
    if [[ $API_STATUS == 000 ]]; then
        printf 'the Consul agent at %s does not answer (%s)' "$(consul_url)" "$API_BODY"
    elif [[ $API_STATUS == 403 ]]; then
        printf 'Consul refused (403 %s): set CONSUL_HTTP_TOKEN to a token that may do this' "${API_BODY%%$'\n'*}"
    else
        printf 'Consul answered %s %s' "$API_STATUS" "${API_BODY%%$'\n'*}"
    fi
}

# A leader is elected and the agent has registered its own node: registrations work.
consul_ready() {
    consul_api GET /v1/status/leader && [[ $API_BODY == *:* ]] &&
        consul_api GET /v1/catalog/nodes && [[ $API_BODY == *Address* ]]
}

# consul_count NAME [passing]: how many instances of a service Consul knows, or knows to be passing.
consul_count() {
    consul_api GET "/v1/health/service/$1${2:+?$2}" || return 1
    jq length <<<"$API_BODY"
}

# consul_has COUNT NAME [passing]: exactly that many.
consul_has() { [[ $(consul_count "${@:2}") == "$1" ]]; }

# consul_status SERVICE_ID: the worst of the service's own checks.
consul_status() {
    consul_api GET "/v1/agent/health/service/id/$1?format=json" || true
    jq -r '.AggregatedStatus // "absent"' <<<"$API_BODY" 2>/dev/null || printf 'unknown'
}
