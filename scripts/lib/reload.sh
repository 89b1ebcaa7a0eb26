# shellcheck shell=bash disable=SC2034,SC2153  # settings of nginx-upstreams.sh
# Asking NGINX whether it accepts its configuration, and making it work with it. Needs messages.sh and nginx.sh, and
# the settings UPSTREAMS_DIR, NGINX_CONF and NGINX_PREFIX.

# Reading a configuration takes milliseconds, unless a log lies on a file system that hangs.
NGINX_TEST_SECONDS=20
NGINX_LINES_MAX=5

# NGINX's message when it refused, on one line.
NGINX_SAYS=

# A list may be written before there is a configuration, or before the other list is there: what can't
# be tested yet is accepted, since no running NGINX depends on it.
nginx_accepts() {
    local output status=0
    [[ -f $NGINX_CONF && -f $UPSTREAMS_DIR/control.conf && -f $UPSTREAMS_DIR/data.conf ]] || return 0
    # The follower ignores the signal by which timeout works.
    output=$(trap - TERM && timeout -k 5 "$NGINX_TEST_SECONDS" nginx -t -p "$NGINX_PREFIX" -c "$NGINX_CONF" 2>&1 8>&-) || status=$?
    ((status != 0)) || return 0
    NGINX_SAYS=$(nginx_words "$output")
    if ((status == 124 || status == 137)); then NGINX_SAYS="nginx -t takes more than $NGINX_TEST_SECONDS s"; fi
    return 1
}

# Prints what is grave in the output of NGINX, else its first line.
nginx_words() {
    local words
    words=$(printf '%s\n' "$1" | grep -E '\[(emerg|alert|crit)\]' | head -n "$NGINX_LINES_MAX" | paste -s -d '|')
    printf '%s' "${words:-${1%%$'\n'*}}"
}

RELOAD_FAULT=

# Succeeds when the lists are in force, as they are too when NGINX doesn't run. Else RELOAD_FAULT.
reload_lists() {
    RELOAD_FAULT=
    if reload_nginx "$NGINX_CONF" "$NGINX_PREFIX"; then return 0; fi
    RELOAD_FAULT=$NGINX_FAULT
    [[ -z $RELOAD_FAULT ]] || return 1
    log 'NGINX does not run: it takes the list when it starts'
}
