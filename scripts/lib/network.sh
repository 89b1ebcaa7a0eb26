# shellcheck shell=bash
# Asking a port whether somebody is there, and what he answers over HTTP. Needs nothing.

# True when something accepts TCP connections there. For loopback and local networks.
# shellcheck disable=SC2016  # expanded by the inner shell
# KILL: TERM may be ignored here (signals.sh), and what is run inherits that.
port_answers() { timeout --foreground -s KILL 2 bash -c 'exec 3<>"/dev/tcp/$1/$2"' _ "$1" "$2" 2>/dev/null; }

# curl without the caller's ~/.curlrc and proxies: what the scripts ask is on this host.
direct_curl() { curl -q --noproxy '*' "$@"; }

http_status() { direct_curl -s -k -o /dev/null --max-time 5 -w '%{http_code}' "$@" || true; }

# Behind OK there may be lines of what somebody should look at.
health_ok() { [[ $(direct_curl -s --max-time 2 "http://$1:$2/health" 2>/dev/null) == OK* ]]; }

# host_port ADDRESS PORT: as in a URL.
host_port() { if [[ $1 == *:* ]]; then printf '[%s]:%s' "$1" "$2"; else printf '%s:%s' "$1" "$2"; fi; }
