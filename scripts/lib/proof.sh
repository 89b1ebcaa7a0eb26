# shellcheck shell=bash disable=SC2034  # what is set here is read by the scripts
# The proof that a registration in Consul is this stack's: whoever may register services may use any name, but only who
# has the key of the stack can compute it. Needs environment.sh.
#
#   STACK_TAG              the tag of the stack's services                                    streamd
#   REGISTRATION_KEY_FILE  64 to 128 hexadecimal digits, the same on all hosts of the stack; "none" for none
#                          run/registration.key; on servers /etc/streamd/registration.key
#
# A service carries the proof as its Meta "streamd-proof": HMAC-SHA256 of "NAME ADDRESS PORT TAG".

STACK_TAG=${STACK_TAG:-streamd}

# Blocks of SHA-256 are 64 bytes long (FIPS 180-4).
HMAC_BLOCK_BYTES=64
# The number of descriptors and processes at a time.
HMAC_AT_ONCE_MAX=32
HMAC_INNER=
HMAC_OUTER=
KEY_ERROR=

# Reads the key, which the development stack makes where there is none. Fails with KEY_ERROR.
registration_key_load() {
    local file text=
    KEY_ERROR=
    file=$(registration_key_file)
    if [[ $file == none ]]; then
        KEY_ERROR="REGISTRATION_KEY_FILE is none"
        return 1
    fi
    if ((!IS_INSTALLED)) && [[ ! -e $file && ! -L $file ]]; then make_registration_key "$file"; fi
    is_own_secret "$file" || return 1
    { read -r text <"$file"; } 2>/dev/null
    if [[ $text == none ]]; then
        KEY_ERROR="$file holds no key"
    elif [[ ! $text =~ ^([0-9A-Fa-f]{2}){32,64}$ ]]; then
        KEY_ERROR="$file holds something else than 64 to 128 hexadecimal digits"
    else
        hmac_take_key "$text"
    fi
    [[ -z $KEY_ERROR ]]
}

registration_key_file() {
    local credential="${CREDENTIALS_DIRECTORY:-}/registration.key"
    if [[ -n ${REGISTRATION_KEY_FILE:-} ]]; then
        printf '%s' "$REGISTRATION_KEY_FILE"
    elif ((!IS_INSTALLED)); then
        printf '%s' "$RUN_DIR/registration.key"
    elif [[ -n ${CREDENTIALS_DIRECTORY:-} && -f $credential ]]; then
        printf '%s' "$credential"
    else
        printf '/etc/streamd/registration.key'
    fi
}

# Several scripts may want to make it: link(2) lets one of them succeed, and no reader sees half a key.
make_registration_key() {
    local new="$1.$BASHPID"
    (umask 077 && set -o noclobber && od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' >"$new") 2>/dev/null &&
        printf '\n' 2>/dev/null >>"$new" && ln -T "$new" "$1" 2>/dev/null
    rm -f "$new"
}

# A key that another user could have read or written proves nothing. What systemd hands over is as it should be.
is_own_secret() {
    local kind owner mode
    if ! read -r owner mode kind < <(stat -c '%u %a %F' -- "$1" 2>/dev/null); then
        KEY_ERROR="there is no key at $1"
    elif [[ $kind != 'regular file' || ! -r $1 ]]; then
        KEY_ERROR="$1 can't be read as a file"
    elif [[ $1 != "${CREDENTIALS_DIRECTORY:-/nowhere}"/* ]] && { ((owner != 0 && owner != EUID)) || ((8#$mode & 8#77)); }; then
        KEY_ERROR="$1 belongs to another user or is open to others: chown it and chmod 0600"
    fi
    [[ -z $KEY_ERROR ]]
}

# registration_proof NAME ADDRESS PORT: prints the proof by the key that was loaded.
registration_proof() { hmac_sha256 "$1 $2 $3 $STACK_TAG"; }

# registration_proofs SUBJECT...: prints a line for each "NAME ADDRESS PORT".
registration_proofs() {
    local subject messages=()
    for subject in "$@"; do messages+=("$subject $STACK_TAG"); done
    while ((${#messages[@]})); do
        hmac_sha256_of_each "${messages[@]:0:HMAC_AT_ONCE_MAX}" || return 1
        messages=("${messages[@]:HMAC_AT_ONCE_MAX}")
    done
}

# ---------------------------------------------------------------- HMAC (RFC 2104)
# printf is a part of the shell, so that the key is on no command line and in no environment.

# hmac_take_key HEX: the pads are kept as printf takes them.
hmac_take_key() {
    local key=$1 byte i
    if ((${#key} > HMAC_BLOCK_BYTES * 2)); then key=$(print_bytes "$key" | sha256_hex); fi
    HMAC_INNER='' HMAC_OUTER=''
    for ((i = 0; i < HMAC_BLOCK_BYTES; i++)); do
        byte=${key:i * 2:2}
        printf -v HMAC_INNER '%s\\x%02x' "$HMAC_INNER" $((16#${byte:-0} ^ 16#36))
        printf -v HMAC_OUTER '%s\\x%02x' "$HMAC_OUTER" $((16#${byte:-0} ^ 16#5c))
    done
}

# hmac_sha256 MESSAGE: prints 64 hexadecimal digits.
hmac_sha256() { hmac_sha256_of_each "$1" | tr -d '\n'; }

# hmac_sha256_of_each MESSAGE...: prints a line for each. Two programs for all of them; what they read is written by forks
# of this shell.
hmac_sha256_of_each() {
    local messages=("$@") sums i inner=sha256sum outer=sha256sum
    for i in "${!messages[@]}"; do
        inner+=" <(print_inner $i)"
        outer+=" <(print_outer $i)"
    done
    mapfile -t sums < <(eval "$inner")
    ((${#sums[@]} == ${#messages[@]})) || return 1
    eval "$outer" | cut -d ' ' -f 1
}

# shellcheck disable=SC2059  # escapes of hmac_take_key's making
print_inner() { printf "$HMAC_INNER" && printf '%s' "${messages[$1]}"; }

# shellcheck disable=SC2059
print_outer() { printf "$HMAC_OUTER" && print_bytes "${sums[$1]%% *}"; }

sha256_hex() { sha256sum | cut -d ' ' -f 1 | tr -d '\n'; }

# print_bytes HEX
print_bytes() {
    local escaped='' i
    for ((i = 0; i < ${#1}; i += 2)); do escaped+="\\x${1:i:2}"; done
    # shellcheck disable=SC2059  # escapes of this function's making
    printf "$escaped"
}
