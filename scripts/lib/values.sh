# shellcheck shell=bash
# Values from outside: whether they are what they should be. Needs nothing.

# is_number TEXT MINIMUM MAXIMUM: decimal, whatever zeros it begins with.
is_number() { [[ $1 =~ ^[0-9]{1,9}$ ]] && ((10#$1 >= $2 && 10#$1 <= $3)); }

# as_decimal NAME...: takes the zeros away with which the values of these variables begin, since bash takes 010 for 8.
as_decimal() {
    local name
    for name in "$@"; do printf -v "$name" '%d' "$((10#${!name}))"; done
}

is_ipv4() {
    local part parts
    [[ $1 =~ ^[0-9]+(\.[0-9]+){3}$ ]] || return 1
    IFS=. read -ra parts <<<"$1"
    for part in "${parts[@]}"; do
        [[ $part =~ ^(0|[1-9][0-9]{0,2})$ ]] && ((part <= 255)) || return 1
    done
}

# version_at_least VERSION MINIMUM
version_at_least() { printf '%s\n%s\n' "$2" "$1" | sort -C -V; }
