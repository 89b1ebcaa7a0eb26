# shellcheck shell=bash disable=SC2153  # settings of nginx-upstreams.sh
# Putting a list in place: NGINX tests it, what it refuses is found and left out, and it works with the rest before the
# list counts as applied. Needs messages.sh, waiting.sh, lists.sh, entries.sh and reload.sh, and the setting UPSTREAMS_DIR.

# A server that NGINX refuses takes some sixteen tests among 256 to be found.
TESTS_MAX=64
# A list that NGINX refused is offered again after this long, and whenever the list changes.
REFUSAL_SECONDS=60
LOCK_SECONDS=60

# Why the last list couldn't be put in place or in force; empty when it was.
LIST_FAULT=

# install_list PLANE SERVER...: puts the list in place, where it differs and NGINX accepts it, and reloads NGINX. What
# NGINX refuses is added to REFUSED. Fails with LIST_FAULT; the list in place is then a good one.
install_list() {
    local status=0
    LIST_FAULT=
    if ! { exec 8>"$UPSTREAMS_DIR/.lock"; } 2>/dev/null; then
        LIST_FAULT="$UPSTREAMS_DIR/.lock can't be written"
        return 1
    fi
    if flock -w "$LOCK_SECONDS" 8; then
        settle_list "$@" || status=$?
        # Also where nothing changed: the reload before may have failed.
        if ((status == 0)); then apply_lists || status=$?; fi
    else
        LIST_FAULT="another nginx-upstreams.sh has held $UPSTREAMS_DIR/.lock for $LOCK_SECONDS s"
        status=1
    fi
    exec 8>&-
    return "$status"
}

settle_list() {
    local plane=$1 list="$UPSTREAMS_DIR/$1" servers=("${@:2}")
    # Left by an installation that was cut off: the list in place may be an untested one.
    if [[ -f $list.last ]]; then put_back "$plane"; fi
    if is_in_place "$plane" "${servers[@]}"; then return 0; fi
    if is_refused_before "${servers[@]}"; then
        name_by_nginx "$plane" "${servers[@]}"
        servers=("${ACCEPTED[@]}")
        if is_in_place "$plane" "${servers[@]}"; then return 0; fi
    fi
    if ! keep_last "$plane"; then
        LIST_FAULT="$list.last can't be written: is the disk full?"
        return 1
    fi
    if try_list "$plane" "${servers[@]}" || { [[ -z $LIST_FAULT ]] && install_part "$plane" "${servers[@]}"; }; then
        rm -f "$list.last"
        log "$plane.conf: $(servers_in "$list.conf")"
        return 0
    fi
    put_back "$plane"
    return 1
}

list_text() { printf 'server %s max_fails=0;\n' "$@"; }

# Consul judges health, so NGINX must not judge as well: max_fails=0, else a few errors would mark all servers failed and
# answer 502 without asking one.
is_in_place() { [[ $(list_text "${@:2}") == "$(cat "$UPSTREAMS_DIR/$1.conf" 2>/dev/null)" ]]; }

# A full disk can't cut off what is another name of the file.
keep_last() {
    local list="$UPSTREAMS_DIR/$1"
    rm -f "$list.last"
    [[ ! -f $list.conf ]] || same_file "$list.conf" "$list.last"
}

# A second name for a file, or a copy where the file system has none.
same_file() { { ln "$1" "$2" || cp -p "$1" "$2" || { rm -f "$2" && false; }; } 2>/dev/null; }

put_back() {
    local list="$UPSTREAMS_DIR/$1"
    rm -f "$list.next"
    if [[ ! -f $list.last ]]; then
        rm -f "$list.conf"
    elif cmp -s "$list.last" "$list.conf"; then
        # rename(2) of two names of one file does nothing.
        rm -f "$list.last"
    else
        mv -f "$list.last" "$list.conf"
    fi
}

# try_list PLANE SERVER...: puts it in place untested, and asks NGINX. LIST_FAULT when it couldn't even be written.
try_list() {
    local list="$UPSTREAMS_DIR/$1" text
    text=$(list_text "${@:2}")
    if ! { printf '%s\n' "$text" >"$list.next" && [[ $(<"$list.next") == "$text" ]] && mv -f "$list.next" "$list.conf"; } 2>/dev/null; then
        rm -f "$list.next"
        LIST_FAULT="$list.conf can't be written: is the disk full?"
        return 1
    fi
    nginx_accepts
}

# ---------------------------------------------------------------- what NGINX refuses

ACCEPTED=()
TESTS=0
# The parts that NGINX refused, with their list and the time.
declare -A NGINX_REFUSED=()
REFUSED_LIST=
REFUSED_AT_CS=0

# install_part PLANE SERVER...: as much of the list as NGINX accepts. Nothing, where it refuses any list.
install_part() {
    local plane=$1 says=$NGINX_SAYS
    shift
    # Any address: whether it is the list at all.
    if ! try_list "$plane" 127.0.0.1:1; then
        : "${LIST_FAULT:=nginx -t refuses the configuration, whatever is in the list: $NGINX_SAYS}"
        return 1
    fi
    ACCEPTED=() TESTS=0 NGINX_REFUSED=()
    add_accepted "$plane" "$@"
    take_uptime
    REFUSED_LIST="$*" REFUSED_AT_CS=$UPTIME_CS
    name_by_nginx "$plane" "$@"
    if ((${#ACCEPTED[@]} == 0)); then
        : "${LIST_FAULT:=nginx -t refuses every server of the list: $says}"
        return 1
    fi
    try_list "$plane" "${ACCEPTED[@]}" || { : "${LIST_FAULT:=nginx -t refuses the list: $NGINX_SAYS}" && return 1; }
}

# Adds to what is accepted whatever of these is accepted with it: all, or a part of either half.
add_accepted() {
    local plane=$1 half
    shift
    if ((TESTS >= TESTS_MAX)); then
        for half in "$@"; do NGINX_REFUSED[$half]="not tried, NGINX refuses too many"; done
        return 0
    fi
    TESTS=$((TESTS + 1))
    if try_list "$plane" "${ACCEPTED[@]}" "$@"; then
        ACCEPTED+=("$@")
    elif (($# == 1)); then
        NGINX_REFUSED[$1]=${LIST_FAULT:-$NGINX_SAYS}
    else
        half=$(($# / 2))
        add_accepted "$plane" "${@:1:half}"
        add_accepted "$plane" "${@:half + 1}"
    fi
}

# Whether a part of this very list was refused a moment ago; ACCEPTED is the rest.
is_refused_before() {
    [[ "$*" == "$REFUSED_LIST" ]] && ((${#ACCEPTED[@]})) || return 1
    take_uptime
    ((UPTIME_CS - REFUSED_AT_CS < REFUSAL_SECONDS * 100))
}

# name_by_nginx PLANE SERVER...: adds what NGINX refused of these to REFUSED.
name_by_nginx() {
    local server
    for server in "${@:2}"; do
        [[ -z ${NGINX_REFUSED[$server]:-} ]] ||
            REFUSED+=("${SERVICES[$1]} at $server"$'\t'"nginx -t: ${NGINX_REFUSED[$server]//[^ -~]/?}")
    done
}

# ---------------------------------------------------------------- what NGINX works with

# Reloads NGINX where it doesn't work with the lists in place, and keeps what it works with. A second name, as above.
apply_lists() {
    local plane
    if is_applied control && is_applied data; then return 0; fi
    if ! reload_lists; then
        LIST_FAULT=$RELOAD_FAULT
        return 1
    fi
    for plane in control data; do
        keep_applied "$plane"
    done
}

is_applied() { [[ ! -f $UPSTREAMS_DIR/$1.conf ]] || cmp -s "$UPSTREAMS_DIR/$1.conf" "$(list_in_force "$1" "$UPSTREAMS_DIR")"; }

keep_applied() {
    local conf="$UPSTREAMS_DIR/$1.conf" applied
    applied=$(list_in_force "$1" "$UPSTREAMS_DIR")
    [[ -f $conf ]] && ! cmp -s "$conf" "$applied" || return 0
    rm -f "$applied.new"
    same_file "$conf" "$applied.new" && mv -f "$applied.new" "$applied"
}

# Prints all servers to which NGINX may send: those of the list it works with, and of that in place where they differ.
servers_in_force() {
    local plane=$1
    { servers_in "$(list_in_force "$plane" "$UPSTREAMS_DIR")" && servers_in "$UPSTREAMS_DIR/$plane.conf"; } 2>/dev/null |
        tr ' ' '\n' | sort -u
}

servers_in() { sed -n 's/^server \([^ ;]*\).*/\1/p' "$1" | paste -s -d ' '; }
