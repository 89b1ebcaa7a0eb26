# shellcheck shell=bash
# One line per check, counted; the caller ends with check_summary. Needs nothing.

CHECKS_PASSED=0
CHECKS_FAILED=0

check() {
    local description=$1
    shift
    if "$@"; then
        CHECKS_PASSED=$((CHECKS_PASSED + 1))
        printf 'ok      %s\n' "$description"
    else
        CHECKS_FAILED=$((CHECKS_FAILED + 1))
        printf 'FAILED  %s%s\n' "$description" "${CHECK_DETAIL:+: $CHECK_DETAIL}"
    fi
    CHECK_DETAIL=
}

check_summary() {
    printf '%d passed, %d failed\n' "$CHECKS_PASSED" "$CHECKS_FAILED"
    ((CHECKS_FAILED == 0))
}
