# shellcheck shell=bash disable=SC2034  # some of what is set here is read by the scripts
# Talking to the API of Consul. Needs messages.sh.
#
#   CONSUL_HTTP_ADDR        address of the agent       http://127.0.0.1:$CONSUL_HTTP_PORT
#   CONSUL_HTTP_TOKEN       ACL token, where ACLs are on
#   CONSUL_HTTP_TOKEN_FILE  a file with it, read anew for each request

# An agent on the same host answers in milliseconds; this only bounds a stuck one.
CONSUL_TIMEOUT_S=5

# The stack's own agent, whatever the caller's environment names. Needs load_settings.
use_stack_consul() {
    export CONSUL_HTTP_ADDR=$STACK_CONSUL_URL
    unset CONSUL_HTTP_TOKEN CONSUL_HTTP_TOKEN_FILE
}

consul_url() {
    local url=${CONSUL_HTTP_ADDR:-http://127.0.0.1:${CONSUL_HTTP_PORT:-8500}}
    [[ $url != unix://* ]] || die "CONSUL_HTTP_ADDR is $url: give the agent's HTTP address instead"
    [[ $url == *://* ]] || url="http://$url"
    printf '%s' "${url%/}"
}

# Writes the address for a log: a name and password in it are masked.
consul_shown() { masked "$(consul_url)"; }

# Whatever stands before the last @ of an address; what isn't one stays.
masked() { if [[ $1 == *//*@* ]]; then printf '%s//***@%s' "${1%%//*}" "${1##*@}"; else printf '%s' "$1"; fi; }

# consul_curl PATH OPTION...: curl with the agent's address before PATH.
consul_curl() { (consul_curl_exec "$@"); }

# Runs the call in place of the calling shell: in the background $! is curl itself.
consul_curl_exec() {
    local path=$1 direct=()
    shift
    if [[ -z ${CONSUL_HTTP_TOKEN:-} && -n ${CONSUL_HTTP_TOKEN_FILE:-} && ! -r $CONSUL_HTTP_TOKEN_FILE ]]; then
        # Without it the agent would be asked as nobody in particular, and refuse for a reason that isn't the true one.
        warn "the token in $CONSUL_HTTP_TOKEN_FILE can't be read, so that nothing was asked"
        exit 1
    fi
    # No proxy sees what an agent on this host is asked, the token least of all.
    if consul_is_local; then direct=(--noproxy '*'); fi
    exec curl -q -g "${direct[@]}" -K <(consul_curl_config "$path") "$@"
}

consul_is_local() {
    local host
    host=$(consul_url)
    host=${host#*://} host=${host%%/*}
    host=${host##*@}
    [[ $host =~ ^(127\.[0-9.]+|localhost|\[::1\])(:|$) ]]
}

# Options of curl that must not be seen in the process list: the token, and the address, which may hold a password.
consul_curl_config() {
    printf 'url = "%s"\n' "$(quoted "$(consul_url)$1")"
    local token=${CONSUL_HTTP_TOKEN:-}
    if [[ -z $token && -n ${CONSUL_HTTP_TOKEN_FILE:-} ]]; then token=$(<"$CONSUL_HTTP_TOKEN_FILE"); fi
    if [[ -n $token ]]; then printf 'header = "X-Consul-Token: %s"\n' "$(quoted "$token")"; fi
}

# For a line of curl's configuration: one with a line feed in it would be two options.
quoted() {
    local text=${1//[[:cntrl:]]/}
    text=${text//\\/\\\\}
    printf '%s' "${text//\"/\\\"}"
}

# consul_api METHOD PATH [JSON]: sets API_BODY and API_STATUS; succeeds on 2xx. When the agent can't be
# reached, API_STATUS is 000 and API_BODY says why.
consul_api() {
    local method=$1 path=$2 answer data=()
    if (($# > 2)); then data=(--data-binary "$3"); fi
    if ! answer=$(consul_curl "$path" -sS -X "$method" --max-time "$CONSUL_TIMEOUT_S" "${data[@]}" \
        -w '\n%{http_code}' 2>&1); then
        API_STATUS=000 API_BODY=$(masked "${answer%%$'\n'*}")
        return 1
    fi
    API_STATUS=${answer##*$'\n'} API_BODY=${answer%$'\n'*}
    [[ $API_STATUS == 2* ]]
}

# Why the last consul_api failed, on one line.
api_error() {
    if [[ $API_STATUS == 000 ]]; then
        printf 'the Consul agent at %s does not answer (%s)' "$(consul_shown)" "$API_BODY"
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
