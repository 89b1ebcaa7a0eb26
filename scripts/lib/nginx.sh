# shellcheck shell=bash disable=SC2034  # what is set here is read by the scripts
# The NGINX that runs with a configuration: finding it, and making it take the files as they are now. Needs
# environment.sh, waiting.sh and processes.sh.
#
# A pid file outlives its process, and the kernel gives the pid to somebody else, whom a SIGHUP ends. So nobody is
# signalled for a number in a file: the stack's NGINX is the process that up.sh started (processes.sh), and on a server
# it has to be an NGINX by its program, be the master by its title, have been started with this very configuration,
# and live in this process namespace.

# A master starts new workers and tells the old ones to quit within milliseconds; a busy host takes longer.
NGINX_RELOAD_SECONDS=5

# The reason why the last reload_nginx failed.
NGINX_FAULT=

# nginx_master CONF PREFIX: prints the pid of the master process; fails when there is none that is certain.
nginx_master() {
    local pid
    if is_stack_nginx "$1"; then
        process_pid nginx
        return
    fi
    { read -r pid <"$(nginx_pid_file "$1" "$2")"; } 2>/dev/null || return 1
    is_nginx_master "$pid" "$1" && printf '%s' "$pid"
}

# nginx_is_hidden CONF PREFIX: the pid file names what calls itself an NGINX and can't be looked at, as one that has more
# capabilities than this process (ptrace(2)): whether it takes the files nobody knows. Sets NGINX_FAULT.
nginx_is_hidden() {
    local pid
    if is_stack_nginx "$1"; then return 1; fi
    { read -r pid <"$(nginx_pid_file "$1" "$2")"; } 2>/dev/null || return 1
    [[ $pid =~ ^[0-9]+$ && $(nginx_title "$pid") == 'nginx: master process '* ]] || return 1
    if readlink "/proc/$pid/exe" >/dev/null 2>&1; then return 1; fi
    NGINX_FAULT="NGINX (pid $pid) can't be looked at: run this as root with all capabilities, or CAP_SYS_PTRACE"
}

is_stack_nginx() { ((!IS_INSTALLED)) && [[ $1 == "$NGINX_DIR/nginx.conf" ]]; }

nginx_pid_file() {
    local path
    path=$(sed -n 's/^ *pid  *"\{0,1\}\([^";]*\).*/\1/p' "$1" | head -n 1)
    if [[ $path == /* ]]; then printf '%s' "$path"; else printf '%s/%s' "$2" "${path:-logs/nginx.pid}"; fi
}

# is_nginx_master PID CONF
is_nginx_master() {
    local title program conf
    [[ $1 =~ ^[1-9][0-9]*$ ]] || return 1
    # A link that can't be read belongs to somebody whom this user couldn't signal either. A program that was upgraded
    # meanwhile has " (deleted)" behind its name.
    program=$(readlink "/proc/$1/exe") 2>/dev/null || return 1
    [[ $(basename "${program% (deleted)}") == nginx* ]] || return 1
    [[ $(readlink "/proc/$1/ns/pid") == "$(readlink /proc/self/ns/pid)" ]] || return 1
    title=$(nginx_title "$1") || return 1
    # NGINX appends its command line to the title.
    [[ $title == 'nginx: master process '* ]] || return 1
    if [[ "$title " == *" -c $2 "* ]]; then
        return 0
    elif [[ $title =~ \ -c\ ?([^ ]+) ]]; then
        conf=${BASH_REMATCH[1]}
    else
        conf=$(nginx_default_conf)
    fi
    [[ $2 -ef $conf ]]
}

nginx_default_conf() { nginx -V 2>&1 | sed -n 's/.*--conf-path=\([^ ]*\).*/\1/p'; }

# The arguments of a process on one line, without the blanks with which NGINX fills the place of the old ones.
nginx_title() {
    local title
    { title=$(tr '\0' ' ' <"/proc/$1/cmdline"); } 2>/dev/null || return 1
    printf '%s' "${title%"${title##*[! ]}"}"
}

# reload_nginx CONF PREFIX: succeeds when it works with what is in its files now: the workers that had the old ones
# accept nothing any more. Else NGINX_FAULT says why; it is empty where NGINX doesn't run.
reload_nginx() {
    local master workers
    NGINX_FAULT=
    # kill(2) takes 0 and what is negative for more than one process.
    if ! master=$(nginx_master "$1" "$2") || ((master <= 1)); then
        nginx_is_hidden "$1" "$2" || true
        return 1
    fi
    mapfile -t workers < <(accepting_workers "$master")
    if ! kill -HUP "$master" 2>/dev/null; then
        NGINX_FAULT="NGINX (pid $master) may not be signalled by this user"
    elif ((${#workers[@]} == 0)); then
        # They can't be seen from here.
        pause 1
    elif ! wait_for "$NGINX_RELOAD_SECONDS" have_quit "${workers[@]}"; then
        NGINX_FAULT="NGINX works with the old files $NGINX_RELOAD_SECONDS s after its reload: see its error log"
    fi
    [[ -z $NGINX_FAULT ]]
}

# Prints the workers that take new connections. Those that finish what they have carry another title.
accepting_workers() {
    local pid children=()
    # proc(5): one line, which no line feed ends.
    { read -ra children <"/proc/$1/task/$1/children"; } 2>/dev/null || true
    for pid in "${children[@]}"; do
        if is_accepting "$pid"; then say "$pid"; fi
    done
}

is_accepting() {
    local title
    title=$(nginx_title "$1") || return 1
    [[ $title == 'nginx: worker process'* && $title != *'shutting down'* ]]
}

have_quit() {
    local pid
    for pid in "$@"; do
        if is_accepting "$pid"; then return 1; fi
    done
}
