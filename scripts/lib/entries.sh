# shellcheck shell=bash disable=SC2153,SC2154  # settings of nginx-upstreams.sh
# Which entries of Consul NGINX may have: each is judged alone, and what is refused is named. Needs environment.sh,
# messages.sh and proof.sh, and the settings UPSTREAMS_DIR and SERVICES.

# More instances than this behind one NGINX mean that something registers wildly; the zones of nginx.conf hold them.
SERVERS_MAX=256
# A proof takes a millisecond, and whoever registers thousands of entries must not stop the lists.
PROOFS_AT_ONCE_MAX=512
PROOFS_KEPT_MAX=8192
REFUSED_LINES_MAX=1000
# The most that are named in the log at one time; all of them are in the file.
REFUSED_LOGGED_MAX=16

# The servers that NGINX may have, in order, and "ID<tab>reason" of each entry that it may not have.
SERVERS=()
REFUSED=()
IS_PROOF_ASKED=1
declare -A PROOFS=()

# judge PLANE FILE: sets SERVERS and REFUSED; fails where the file isn't what Consul answers.
judge() {
    local service=${SERVICES[$1]} verdicts verdict first second port proof
    mapfile -t verdicts < <(jq -n -r -L "$LIB_DIR" --arg service "$service" --arg tag "$STACK_TAG" \
        -f "$LIB_DIR/upstreams.jq" "$2" 2>/dev/null)
    wait "$!" || return 1
    SERVERS=() REFUSED=()
    if ((IS_PROOF_ASKED)); then prove "$service" "${verdicts[@]}"; fi
    # Not a tab, of which several in a row would be one to read.
    while IFS=$'\x1f' read -r verdict first second port proof; do
        if [[ $verdict == refuse ]]; then
            REFUSED+=("$first"$'\t'"$second")
        elif [[ " ${SERVERS[*]} " == *" $first "* ]]; then
            continue
        elif ! is_proven "$service $second $port" "$proof"; then
            REFUSED+=("$service-$second-$port"$'\t'"$PROOF_FAULT")
        elif ((${#SERVERS[@]} >= SERVERS_MAX)); then
            REFUSED+=("$service-$second-$port"$'\t'"NGINX gets no more than $SERVERS_MAX servers")
        else
            SERVERS+=("$first")
        fi
    done < <(((${#verdicts[@]} == 0)) || printf '%s\n' "${verdicts[@]}" | tr '\t' '\037')
}

# prove NAME VERDICT...: makes the proofs that are asked for the first time.
prove() {
    local name=$1 verdict first address port proof subjects=() proofs i
    shift
    ((${#PROOFS[@]} <= PROOFS_KEPT_MAX)) || PROOFS=()
    for verdict in "$@"; do
        [[ $verdict == take$'\t'* && $verdict != *$'\t'- ]] || continue
        verdict=${verdict#*$'\t'*$'\t'} verdict=${verdict%$'\t'*}
        address=${verdict%$'\t'*} port=${verdict#*$'\t'}
        [[ -z ${PROOFS["$name $address $port"]:-} ]] || continue
        subjects+=("$name $address $port")
        ((${#subjects[@]} < PROOFS_AT_ONCE_MAX)) || break
    done
    ((${#subjects[@]})) || return 0
    mapfile -t proofs < <(registration_proofs "${subjects[@]}")
    ((${#proofs[@]} == ${#subjects[@]})) || return 0
    for i in "${!subjects[@]}"; do PROOFS[${subjects[i]}]=${proofs[i]}; done
}

PROOF_FAULT=

# is_proven SUBJECT PROOF
is_proven() {
    ((IS_PROOF_ASKED)) || return 0
    if [[ $2 == - ]]; then
        PROOF_FAULT="it carries no proof by the stack's key: who registered it?"
    elif [[ -z ${PROOFS[$1]:-} ]]; then
        PROOF_FAULT="its proof waits until others are looked at"
    elif [[ $2 != "${PROOFS[$1]}" ]]; then
        PROOF_FAULT="its proof is not by this stack's key"
    else
        return 0
    fi
    return 1
}

# ---------------------------------------------------------------- naming what is refused

declare -A REFUSED_NAMED=()
REFUSED_WRITTEN=unknown

# name_refused PLANE: into PLANE.refused, and those that are new into the log.
name_refused() {
    local line new=()
    for line in "${REFUSED[@]}"; do
        [[ -z ${REFUSED_NAMED[$line]:-} ]] || continue
        ((${#REFUSED_NAMED[@]} <= REFUSED_LINES_MAX)) || REFUSED_NAMED=()
        REFUSED_NAMED[$line]=1
        new+=("$line")
    done
    for line in "${new[@]:0:REFUSED_LOGGED_MAX}"; do
        log "$1.conf: refused ${line%%$'\t'*}: ${line#*$'\t'}"
    done
    ((${#new[@]} <= REFUSED_LOGGED_MAX)) ||
        log "$1.conf: refused $((${#new[@]} - REFUSED_LOGGED_MAX)) more: see $UPSTREAMS_DIR/$1.refused"
    write_refused "$1"
}

# A full disk is no reason to stop: it is tried again with the next look.
write_refused() {
    local file="$UPSTREAMS_DIR/$1.refused" text
    text=$(printf '%s\n' "${REFUSED[@]:0:REFUSED_LINES_MAX}")
    [[ $text != "$REFUSED_WRITTEN" ]] || return 0
    if ((${#REFUSED[@]} == 0)); then
        rm -f "$file" && REFUSED_WRITTEN=$text
    elif { printf '%s\n' "$text" >"$file.new" && mv -f "$file.new" "$file"; } 2>/dev/null; then
        REFUSED_WRITTEN=$text
    else
        rm -f "$file.new"
    fi
}
