# shellcheck shell=bash
# The configuration of the stack's NGINX, out of nginx.conf. Needs environment.sh, messages.sh, values.sh and settings.sh.

# Prints nginx.conf with the marked lines replaced. A marker without a value here is a fault.
render_nginx_conf() {
    local line name
    local -A values
    nginx_values
    while IFS= read -r line; do
        if [[ $line =~ ^(\ *).*\#\ up\.sh:\ ([A-Z_]+)$ ]]; then
            name=${BASH_REMATCH[2]}
            [[ -n ${values[$name]+set} ]] || die "nginx.conf has a marker up.sh doesn't know: $name"
            printf '%s%s\n' "${BASH_REMATCH[1]}" "${values[$name]}"
        else
            printf '%s\n' "$line"
        fi
    done <"$REPO_DIR/nginx.conf"
}

# shellcheck disable=SC2154  # values belongs to render_nginx_conf
nginx_values() {
    values[LOAD_MODULE]=$(stream_module)
    values[PID]="pid \"$NGINX_DIR/nginx.pid\";"
    values[ERROR_LOG]="error_log \"$LOG_DIR/nginx.log\" notice;"
    values[ACCESS_LOG]="access_log \"$LOG_DIR/nginx-access.log\" streamd;"
    values[STREAM_LOG]="access_log \"$LOG_DIR/nginx-stream.log\" streamd;"
    values[TEMP_PATHS]=$(temp_paths)
    values[LISTEN_HTTP]=$(listen "$HTTP_PORT" '')
    values[LISTEN_HTTPS]=$(listen_https)
    values[LISTEN_TCP]=$(listen_tcp)
    # Its digest, so that another certificate is another configuration, which a running NGINX is made to take.
    values[TLS_CERT]="ssl_certificate \"$RUN_DIR/tls/cert.pem\";  # SHA-256 $(sha256sum 2>/dev/null <"$RUN_DIR/tls/cert.pem" | cut -d ' ' -f 1)"
    values[TLS_KEY]="ssl_certificate_key \"$RUN_DIR/tls/key.pem\";"
}

# IPv6 only where the kernel has it: NGINX refuses to start otherwise.
listen() {
    printf 'listen %s%s;' "$1" "$2"
    if grep -qs . /proc/net/if_inet6; then printf ' listen [::]:%s%s;' "$1" "$2"; fi
}

# From 1.25.1 on NGINX wants "http2 on", which older ones don't know, and says so at every start.
listen_https() {
    local version
    version=$(nginx -v 2>&1 | sed -n 's#.*/\([0-9.]*\).*#\1#p')
    if ! nginx -V 2>&1 | grep -q -e --with-http_v2_module; then
        listen "$HTTPS_PORT" ' ssl'
    elif version_at_least "$version" 1.25.1; then
        printf '%s http2 on;' "$(listen "$HTTPS_PORT" ' ssl')"
    else
        listen "$HTTPS_PORT" ' ssl http2'
    fi
}

listen_tcp() {
    case $TCP_ADDRESS in
        '*') listen "$TCP_PORT" '' ;;
        loopback)
            printf 'listen 127.0.0.1:%s;' "$TCP_PORT"
            if grep -qs '^0\{31\}1 ' /proc/net/if_inet6; then printf ' listen [::1]:%s;' "$TCP_PORT"; fi
            ;;
        *:*) printf 'listen [%s]:%s;' "$TCP_ADDRESS" "$TCP_PORT" ;;
        *) printf 'listen %s:%s;' "$TCP_ADDRESS" "$TCP_PORT" ;;
    esac
}

temp_paths() {
    local kind
    for kind in client_body proxy fastcgi uwsgi scgi; do
        printf '%s_temp_path "%s"; ' "$kind" "$NGINX_DIR/temp/$kind"
    done
}

# The stream module is a file of its own on Debian, and built in elsewhere.
stream_module() {
    local arguments directory
    arguments=$(nginx -V 2>&1)
    [[ $arguments != *' --with-stream '* ]] || return 0
    for directory in "$(sed -n 's/.*--modules-path=\([^ ]*\).*/\1/p' <<<"$arguments")" \
        /usr/lib/nginx/modules /usr/lib64/nginx/modules; do
        if [[ -f $directory/ngx_stream_module.so ]]; then
            printf 'load_module "%s/ngx_stream_module.so";' "$directory"
            return 0
        fi
    done
    die "NGINX's stream module is missing: run scripts/install-deps.sh"
}

# has_other_addresses OLD NEW: whether NEW listens at a port of OLD, but at other addresses. NGINX binds the new ones
# before it lets go of the old, which the kernel refuses where one of the two is for all addresses: then a reload
# changes nothing.
has_other_addresses() {
    local port old
    for port in "$HTTP_PORT" "$HTTPS_PORT" "$TCP_PORT"; do
        old=$(listeners "$1" "$port")
        [[ -z $old || $old == "$(listeners "$2" "$port")" ]] || return 0
    done
    return 1
}

# listeners FILE PORT
listeners() { grep -v '^ *#' "$1" | grep -o -E "listen ([^; ]*:)?$2[ ;]" | tr -d ' ;' | sort; }
