#!/usr/bin/env bash
# Makes the self-signed certificate with which NGINX serves HTTPS on a development machine, valid for
# localhost, 127.0.0.1 and ::1. Keeps the one that is there until it is about to expire.
set -euo pipefail
# shellcheck source=lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
    cat <<'USAGE'
usage: tls-cert.sh [DIR]

Writes DIR/cert.pem and DIR/key.pem (mode 0600). DIR is run/tls unless given. A certificate that is
valid for another 30 days, names localhost and fits its key is kept.
USAGE
}

DAYS_VALID=365
DAYS_LEFT_MIN=30

main() {
    case ${1:-} in
        -h | --help) usage && exit 0 ;;
        -*) die_usage "unknown option \"$1\"" ;;
    esac
    (($# <= 1)) || die_usage "too many arguments"
    local directory=${1:-$RUN_DIR/tls}
    command -v openssl >/dev/null || die "openssl is missing: run scripts/install-deps.sh"
    mkdir -p "$directory" || die "can't create $directory: choose another DIR"
    if is_good "$directory"; then
        say "certificate in $directory is valid until $(expires "$directory")"
        return 0
    fi
    make_certificate "$directory"
    say "certificate written to $directory, valid until $(expires "$directory")"
}

is_good() {
    local certificate="$1/cert.pem" key="$1/key.pem"
    [[ -s $certificate && -s $key && $(stat -c %a "$key") == 600 ]] || return 1
    openssl x509 -in "$certificate" -noout -checkend $((DAYS_LEFT_MIN * 86400)) >/dev/null 2>&1 || return 1
    openssl x509 -in "$certificate" -noout -ext subjectAltName 2>/dev/null | grep -q DNS:localhost || return 1
    [[ $(openssl x509 -in "$certificate" -noout -pubkey) == "$(openssl pkey -in "$key" -pubout 2>/dev/null)" ]]
}

expires() { openssl x509 -in "$1/cert.pem" -noout -enddate | cut -d = -f 2; }

# Both files appear under their names only when both are complete.
make_certificate() {
    local directory=$1 output
    if ! output=$(
        umask 077
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -sha256 -nodes \
            -days "$DAYS_VALID" -subj /CN=localhost \
            -addext 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1' \
            -addext 'basicConstraints=critical,CA:FALSE' -addext 'extendedKeyUsage=serverAuth' \
            -keyout "$directory/key.pem.new" -out "$directory/cert.pem.new" 2>&1
    ); then
        rm -f "$directory"/{key,cert}.pem.new
        die "openssl could not make a certificate: $(tail -n 1 <<<"$output")"
    fi
    chmod 0600 "$directory/key.pem.new"
    chmod 0644 "$directory/cert.pem.new"
    mv "$directory/key.pem.new" "$directory/key.pem"
    mv "$directory/cert.pem.new" "$directory/cert.pem"
}

main "$@"
