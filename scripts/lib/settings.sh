# shellcheck shell=bash disable=SC2034  # much of what is set here is read by the scripts
# The settings of the development stack. Needs environment.sh, messages.sh and values.sh.
#
# From the environment; up.sh records what it chose in $RUN_DIR/stack.env for the other scripts.
#   RUN_DIR             state and logs of the stack                     run/ of the repository
#   REPLICAS            streamd replicas, on 127.0.0.1 and up           3
#   DATA_PORT           data plane of each replica                      8080
#   CONTROL_PORT        control plane of each replica                   8081
#   HTTP_PORT           NGINX, HTTP                                     80, or 8000 where 80 can't be had
#   HTTPS_PORT          NGINX, HTTPS                                    443, or 8443 likewise
#   TCP_PORT            NGINX, to the data planes                       9080
#   TCP_ADDRESS         where it listens for that: loopback, * for all  loopback
#                       addresses, or one IPv4 or IPv6 address
#   CONSUL_HTTP_PORT    Consul API and user interface                   8500
#   CONSUL_DNS_PORT     Consul DNS                                      8600
#   CONSUL_SERVER_PORT  Consul RPC                                      8300
#   CONSUL_SERF_PORT    Consul gossip                                   8301
#   ROOT_DIR            files to serve                                  $RUN_DIR/www
#   STREAMD_BIN         streamd to run                                  built by cargo

SETTINGS=(REPLICAS DATA_PORT CONTROL_PORT HTTP_PORT HTTPS_PORT TCP_PORT TCP_ADDRESS
    CONSUL_HTTP_PORT CONSUL_DNS_PORT CONSUL_SERVER_PORT CONSUL_SERF_PORT)

# A replica per loopback address; more than this on one host is a slip of the keyboard.
REPLICAS_MAX=64

# The environment first, then what up.sh recorded, then the defaults above.
load_settings() {
    load_recorded_settings
    : "${REPLICAS:=3}" "${DATA_PORT:=8080}" "${CONTROL_PORT:=8081}" "${TCP_PORT:=9080}" "${TCP_ADDRESS:=loopback}"
    : "${CONSUL_HTTP_PORT:=8500}" "${CONSUL_DNS_PORT:=8600}"
    : "${CONSUL_SERVER_PORT:=8300}" "${CONSUL_SERF_PORT:=8301}"
    : "${HTTP_PORT:=}" "${HTTPS_PORT:=}" # up.sh chooses them
    : "${ROOT_DIR:=$RUN_DIR/www}"
    check_settings
    STACK_CONSUL_URL="http://127.0.0.1:$CONSUL_HTTP_PORT"
}

# Whether up.sh has brought up the stack, and down.sh hasn't ended it.
stack_is_recorded() {
    [[ ! -d $RUN_DIR || -x $RUN_DIR ]] || die "$RUN_DIR can't be entered: it is another user's"
    [[ -f $STATE_FILE ]]
}

load_recorded_settings() {
    stack_is_recorded || return 0
    [[ -r $STATE_FILE ]] || die "$STATE_FILE can't be read: the stack in $RUN_DIR is another user's"
    local key value
    while IFS='=' read -r key value; do
        [[ " ${SETTINGS[*]} ROOT_DIR " == *" $key "* ]] || continue
        [[ -n ${!key:-} ]] || printf -v "$key" '%s' "$value"
    done <"$STATE_FILE"
}

check_settings() {
    local key
    is_number "$REPLICAS" 1 "$REPLICAS_MAX" ||
        die_usage "REPLICAS is \"$REPLICAS\": it must be a number from 1 to $REPLICAS_MAX"
    as_decimal REPLICAS
    for key in "${SETTINGS[@]}"; do
        [[ $key == *_PORT && -n ${!key:-} ]] || continue
        is_number "${!key}" 1 65535 || die_usage "$key is \"${!key}\": it must be a port from 1 to 65535"
        as_decimal "$key"
    done
    check_ports_differ
    is_tcp_address "$TCP_ADDRESS" ||
        die_usage "TCP_ADDRESS is \"$TCP_ADDRESS\": it must be loopback, * or an IPv4 or IPv6 address"
}

# NGINX listens at all addresses, so that no two may be the same.
check_ports_differ() {
    local key
    local -A keys=()
    for key in "${SETTINGS[@]}"; do
        [[ $key == *_PORT && -n ${!key:-} ]] || continue
        [[ -z ${keys[${!key}]:-} ]] || die_usage "${keys[${!key}]} and $key are both ${!key}: they must differ"
        keys[${!key}]=$key
    done
}

is_tcp_address() { [[ $1 == loopback || $1 == '*' ]] || is_ipv4 "$1" || [[ $1 =~ ^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*$ ]]; }

# Whether NGINX's port to the data planes is for other hosts too.
tcp_is_open() { [[ $TCP_ADDRESS != loopback && $TCP_ADDRESS != 127.* && $TCP_ADDRESS != ::1 ]]; }

# Prints the address at which this host asks at that port.
tcp_host() {
    case $TCP_ADDRESS in
        loopback | '*' | 0.0.0.0) printf '127.0.0.1' ;;
        ::) printf '::1' ;;
        *) printf '%s' "$TCP_ADDRESS" ;;
    esac
}

record_settings() {
    local key lines=()
    for key in "${SETTINGS[@]}" ROOT_DIR; do lines+=("$key=${!key}"); done
    write_file "$STATE_FILE.new" "${lines[@]}"
    mv -- "$STATE_FILE.new" "$STATE_FILE"
}

# Prints the streamd to run. STREAMD_BIN wins over cargo's target directory.
streamd_path() { printf '%s' "${STREAMD_BIN:-${CARGO_TARGET_DIR:-$REPO_DIR/target}/release/streamd}"; }
