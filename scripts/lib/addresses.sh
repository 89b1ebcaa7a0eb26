# shellcheck shell=bash
# Whether a text is the literal of an IP address. Needs environment.sh.

is_address() { jq -e -n -L "$LIB_DIR" --arg text "$1" 'include "addresses"; $text | is_peer_address' >/dev/null 2>&1; }
