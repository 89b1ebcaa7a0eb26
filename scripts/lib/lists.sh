# shellcheck shell=bash
# The lists that NGINX works with, and whether it follows Consul, as nginx-upstreams.sh leaves it beside the two lists, control
# and data. Needs environment.sh and waiting.sh.
#
#   PLANE.conf       the list that NGINX includes; nginx -t and the reload may still be under way
#   PLANE.refused    only while an entry of Consul is refused: its ID, a tab, why
#   .PLANE.applied   the list that the running NGINX works with
#   .PLANE.state     one line: boot id, seconds of uptime at the last look, pid of the follower, why the list can't
#                    change now. Of one size and written over in place, so that no full disk can stop it.

# Looks end every 5 s at least (BLOCK_SECONDS of nginx-upstreams.sh), longer where NGINX is slow to reload.
LOOK_AGE_SECONDS_MAX=30
LIST_STATE_BYTES=512

# lists_stand_still [DIR]: succeeds and prints why, when a change in Consul would not reach NGINX.
lists_stand_still() {
    local directory=${1:-$NGINX_DIR/upstreams} plane
    for plane in control data; do
        list_stands_still "$plane" "$directory" && return 0
    done
    return 1
}

# list_stands_still PLANE [DIR]: the same of one list.
list_stands_still() {
    local directory=${2:-$NGINX_DIR/upstreams} reason age
    age=$(list_look_age "$1" "$directory")
    if [[ -z $age ]]; then
        printf '%s.conf: nobody has looked for changes' "$1"
    elif reason=$(list_fault "$1" "$directory") && [[ -n $reason ]]; then
        printf '%s.conf: %s' "$1" "$reason"
    elif ((age > LOOK_AGE_SECONDS_MAX)); then
        printf '%s.conf: the last look for changes was %d s ago' "$1" "$age"
    else
        return 1
    fi
}

# list_in_force PLANE [DIR]: prints the path of the list that the running NGINX works with.
list_in_force() { printf '%s/.%s.applied' "${2:-$NGINX_DIR/upstreams}" "$1"; }

# list_look_age PLANE [DIR]: prints how many seconds ago the list was last compared with Consul; nothing when it wasn't
# since the boot.
list_look_age() {
    local boot looked
    read_list_state "$1" "${2:-$NGINX_DIR/upstreams}" boot looked _ || return 0
    [[ $boot == "$(boot_id)" && $looked =~ ^[0-9]{1,12}$ ]] || return 0
    take_uptime
    printf '%d' "$((UPTIME_CS / 100 - 10#$looked))"
}

# list_fault PLANE [DIR]: prints why the list can't change, as its follower last said.
list_fault() {
    local reason=
    read_list_state "$1" "${2:-$NGINX_DIR/upstreams}" _ _ _ reason || return 0
    printf '%s' "$reason"
}

# read_list_state PLANE DIR NAME...
read_list_state() { { read -r "${@:3}" <"$2/.$1.state"; } 2>/dev/null; }

# write_list_state PLANE DIR LOOKED PID REASON: LOOKED is in seconds of uptime, or - where there was no look.
write_list_state() {
    local file="$2/.$1.state" LC_ALL=C
    printf '%-*.*s\n' $((LIST_STATE_BYTES - 1)) $((LIST_STATE_BYTES - 1)) "$(boot_id) $3 $4 $5" 2>/dev/null 1<>"$file"
}

boot_id() { { read -r REPLY </proc/sys/kernel/random/boot_id; } 2>/dev/null && printf '%s' "$REPLY" || printf -- -; }
