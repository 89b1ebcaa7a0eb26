#!/usr/bin/env bash
# Makes the self-signed certificate with which NGINX serves HTTPS on a development machine, valid for
# localhost, 127.0.0.1 and ::1. Keeps the one that is there until it is about to expire, and for ever what it
# didn't make itself.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/lib/environment.sh"
source "$LIB_DIR/messages.sh"

usage() {
    cat <<'USAGE'
usage: tls-cert.sh [--remove] [DIR]

Writes DIR/cert.pem and DIR/key.pem (mode 0600). DIR is run/tls unless given; away from the repository it has to be.
A certificate that is valid for another 30 days, names localhost and fits its key is kept. So is every cert.pem, key.pem
or link of these names that this script didn't make, whatever is in it: DIR/.tls-cert.made has the SHA-256 of what it
did make.

  --remove  remove what this script made in DIR, and DIR where it is empty then

Exit code: 0 there is a certificate, 1 there is none and none could be made, 2 usage.
USAGE
}

DAYS_VALID=365
DAYS_LEFT_MIN=30
NAMES=(key.pem cert.pem)

REMOVE=0
DIRECTORY=
PRIVATE=

main() {
    parse_arguments "$@"
    MADE="$DIRECTORY/.tls-cert.made"
    if ((REMOVE)); then
        remove_own
        return 0
    fi
    command -v openssl >/dev/null || die "openssl is missing: run scripts/install-deps.sh"
    mkdir -p -- "$DIRECTORY" || die "can't create $DIRECTORY: choose another DIR"
    if has_others; then
        keep_others
    elif is_good; then
        say "certificate in $DIRECTORY is valid until $(expires)"
    else
        make_certificate
        say "certificate written to $DIRECTORY, valid until $(expires)"
    fi
}

parse_arguments() {
    case ${1:-} in
        -h | --help) usage && exit 0 ;;
        --remove) REMOVE=1 && shift ;;
        -*) die_usage "unknown option \"$1\"" ;;
    esac
    (($# <= 1)) || die_usage "too many arguments"
    ((!IS_INSTALLED)) || [[ -n ${1:-} ]] || die_usage "name the directory for the certificate"
    DIRECTORY=$(realpath -m -- "${1:-$RUN_DIR/tls}")
}

# ---------------------------------------------------------------- what is there

# Whether this script made the file: a regular one, whose digest it has written down.
is_own() {
    local file="$DIRECTORY/$1"
    [[ -f $file && ! -L $file ]] && is_own_list || return 1
    grep -q -x -F -e "$(digest "$file")" "$MADE"
}

# A list that somebody else could have written says nothing.
is_own_list() { [[ -f $MADE && ! -L $MADE && -O $MADE && $(stat -c %a "$MADE") == 644 ]]; }

digest() { sha256sum <"$1" | cut -d ' ' -f 1; }

is_there() { [[ -e $DIRECTORY/$1 || -L $DIRECTORY/$1 ]]; }

has_others() {
    local name
    for name in "${NAMES[@]}"; do
        if is_there "$name" && ! is_own "$name"; then return 0; fi
    done
    return 1
}

# Somebody's own certificate: what is in it NGINX judges. It isn't this script's to mend.
keep_others() {
    local name
    for name in "${NAMES[@]}"; do
        [[ -e $DIRECTORY/$name ]] ||
            die "$DIRECTORY has files that this script didn't make and leaves alone, and $name is missing there: bring it, or choose another DIR"
    done
    say "certificate in $DIRECTORY isn't of this script's making and stays as it is, valid until $(expires)"
    openssl x509 -in "$DIRECTORY/cert.pem" -noout -checkend 0 >/dev/null 2>&1 ||
        warn "$DIRECTORY/cert.pem has expired or can't be read, and this script doesn't replace it: bring a new one"
}

is_good() {
    local certificate="$DIRECTORY/cert.pem" key="$DIRECTORY/key.pem"
    [[ -s $certificate && -s $key && $(stat -c %a "$key") == 600 ]] || return 1
    openssl x509 -in "$certificate" -noout -checkend $((DAYS_LEFT_MIN * 86400)) >/dev/null 2>&1 || return 1
    openssl x509 -in "$certificate" -noout -ext subjectAltName 2>/dev/null | grep -q DNS:localhost || return 1
    [[ $(openssl x509 -in "$certificate" -noout -pubkey) == "$(openssl pkey -in "$key" -pubout 2>/dev/null)" ]]
}

expires() { openssl x509 -in "$DIRECTORY/cert.pem" -noout -enddate 2>/dev/null | cut -d = -f 2 | grep . || printf 'unknown'; }

# ---------------------------------------------------------------- making

# In a folder into which nobody else can put anything, not even a link; from there both files get their names when
# both are complete and written down as this script's.
make_certificate() {
    local name
    refuse_open_directory
    PRIVATE=$(mktemp -d "$DIRECTORY/.tls-cert.XXXXXX" 2>/dev/null) || die "can't write to $DIRECTORY: choose another DIR"
    trap 'rm -rf -- "$PRIVATE"' EXIT
    # The folder below . stays the one that was made, whoever renames it.
    cd "$PRIVATE" || die "can't enter $PRIVATE"
    [[ -O . && $(stat -c %a .) == 700 ]] || die "$PRIVATE was exchanged for another folder: choose another DIR"
    run_openssl
    write_down
    for name in "${NAMES[@]}"; do put "$name"; done
}

# Without the sticky bit any user may rename what is in it.
refuse_open_directory() {
    [[ -z $(find "$DIRECTORY" -maxdepth 0 -perm -o+w ! -perm -1000) ]] ||
        die "every user may write to $DIRECTORY: a key is not safe there"
}

run_openssl() {
    local output
    if ! output=$(
        umask 077
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -sha256 -nodes \
            -days "$DAYS_VALID" -subj /CN=localhost \
            -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1' \
            -addext 'basicConstraints=critical,CA:FALSE' -addext 'extendedKeyUsage=serverAuth' \
            -keyout key.pem -out cert.pem 2>&1
    ); then
        die "openssl could not make a certificate: $(tail -n 1 <<<"$output")"
    fi
    chmod 0600 key.pem
    chmod 0644 cert.pem
}

# Files that are about to be replaced stay in the list: where this is cut off, they are still this script's.
write_down() {
    local name
    {
        for name in "${NAMES[@]}"; do
            digest "$name"
            if is_own "$name"; then digest "$DIRECTORY/$name"; fi
        done
    } >made
    chmod 0644 made
    if is_own_list; then mv -f -T -- made "$MADE"; else put_new made "$MADE"; fi
}

put() { if is_own "$1"; then mv -f -T -- "$1" "$DIRECTORY/$1"; else put_new "$1" "$DIRECTORY/$1"; fi; }

# put_new FILE PATH: gives it a name that nothing has. mv -n succeeds where it did nothing.
put_new() {
    mv -n -T -- "$1" "$2" 2>/dev/null || true
    [[ ! -e $1 ]] || die "$2 is there already, and not of this script's making: nothing was replaced"
}

# ---------------------------------------------------------------- removing

remove_own() {
    local name
    for name in "${NAMES[@]}"; do
        if is_own "$name"; then rm -f -- "$DIRECTORY/$name"; fi
    done
    if is_own_list; then rm -f -- "$MADE"; fi
    rmdir -- "$DIRECTORY" 2>/dev/null || true
}

main "$@"
