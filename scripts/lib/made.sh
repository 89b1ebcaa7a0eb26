# shellcheck shell=bash
# The files that up.sh makes in RUN_DIR, and that down.sh may therefore remove. Needs environment.sh, messages.sh and lock.sh.
#
# RUN_DIR may be any folder, with other things in it. Its stack.made names what up.sh made, a name a line; what isn't
# named there is somebody else's, and is neither written over nor removed.

MADE_FILE="$RUN_DIR/stack.made"
# Half a megabyte are in use when it is up.
FREE_KIB_MIN=1024
# Folders that the stack has to itself.
STACK_FOLDERS=(log pids nginx consul tls)
STACK_FILES=(lock stack.env registration.key)
STREAMD_TOML='# Options of all replicas of this stack that have no streamd-N.toml of their own.'
HELLO='hello from streamd'

# Makes RUN_DIR with what every start needs, and locks it.
make_run_dir() {
    local is_new=0 had_lock=0 folder
    refuse_others_folders
    [[ -d $RUN_DIR ]] || is_new=1
    [[ ! -e $RUN_DIR/lock ]] || had_lock=1
    mkdir -p -- "$RUN_DIR" 2>/dev/null || die "can't create $RUN_DIR: choose another RUN_DIR"
    lock_stack
    # By now another up.sh may have made it, or somebody else something.
    refuse_others_folders
    [[ -e $MADE_FILE ]] || adopt_older_stack
    ((!is_new)) || note_made .
    ((had_lock)) || note_made lock
    note_made stack.env
    # Made by whoever needs it first.
    if [[ ! -e $RUN_DIR/registration.key && ! -L $RUN_DIR/registration.key ]]; then note_made registration.key; fi
    refuse_full_disk
    for folder in "${STACK_FOLDERS[@]}"; do
        if [[ ! -d $RUN_DIR/$folder ]]; then
            note_made "$folder"
            mkdir -- "$RUN_DIR/$folder" 2>/dev/null || die "can't create $RUN_DIR/$folder"
        fi
    done
    [[ -w $LOG_DIR && -w $PID_DIR ]] || die "$RUN_DIR belongs to another user: remove it or set RUN_DIR"
}

# Ends the script where RUN_DIR is a folder of another kind (/var, /etc), before anything is written there.
refuse_others_folders() {
    local folder others=()
    if [[ -e $MADE_FILE && ! -O $MADE_FILE ]]; then
        die "the stack in $RUN_DIR is another user's: be that user, or set RUN_DIR"
    fi
    for folder in "${STACK_FOLDERS[@]}"; do
        [[ -e $RUN_DIR/$folder || -L $RUN_DIR/$folder ]] || continue
        is_made "$folder" || others+=("$folder")
    done
    ((${#others[@]})) || return 0
    if [[ ! -e $MADE_FILE ]] && is_older_stack; then return 0; fi
    die "RUN_DIR is $RUN_DIR, where up.sh didn't make ${others[*]}: set RUN_DIR to an empty folder, or to one that isn't there yet"
}

# A sentence instead of what each of the programs says in its own words. Consul's data and the first logs take less.
refuse_full_disk() {
    local free_kib
    free_kib=$(df --output=avail --block-size=1K -- "$RUN_DIR" 2>/dev/null | tail -n 1) || return 0
    [[ ! $free_kib =~ ^\ *[0-9]+$ ]] || ((free_kib >= FREE_KIB_MIN)) ||
        die "the disk of $RUN_DIR is full: ${free_kib// /} KiB are free, and the stack needs $FREE_KIB_MIN"
}

# Whether RUN_DIR is a stack's, running or not.
is_stack_dir() { [[ -e $MADE_FILE ]] || is_older_stack; }

# Whether RUN_DIR is of a version that had no stack.made: its lock is empty, and its pids are nothing else.
is_older_stack() {
    local file
    [[ -f $RUN_DIR/lock && ! -s $RUN_DIR/lock && -O $PID_DIR && -d $LOG_DIR ]] || return 1
    for file in "$PID_DIR"/*; do
        [[ ! -e $file || $file == *.pid || $file == *.command ]] || return 1
    done
}

adopt_older_stack() {
    local name
    if ! is_older_stack; then return 0; fi
    # The last three are removed as far as they are what up.sh wrote.
    for name in "${STACK_FOLDERS[@]}" "${STACK_FILES[@]}" streamd.toml www www/hello.txt; do
        if [[ -e $RUN_DIR/$name && ! -L $RUN_DIR/$name ]]; then note_made "$name"; fi
    done
}

note_made() { is_made "$1" || append_line "$MADE_FILE" "$1"; }

# A list that somebody else could have written says nothing.
is_made() { [[ -f $MADE_FILE && ! -L $MADE_FILE && -O $MADE_FILE ]] && grep -q -x -F -e "$1" "$MADE_FILE"; }

# ---------------------------------------------------------------- removing

# Removes what stack.made names, and says what it leaves.
remove_made() {
    local name
    if [[ ! -e $MADE_FILE ]]; then
        say "nothing is removed: $RUN_DIR has no stack.made, which would name what up.sh made"
        return 0
    elif [[ ! -O $MADE_FILE ]]; then
        die "nothing is removed: the stack in $RUN_DIR is another user's"
    fi
    for name in "${STACK_FOLDERS[@]}" www; do
        if is_made "$name"; then remove_folder "$name"; fi
    done
    for name in "${STACK_FILES[@]}"; do
        if is_made "$name" && [[ ! -L $RUN_DIR/$name ]]; then rm -f -- "${RUN_DIR:?}/$name"; fi
    done
    remove_if_unchanged streamd.toml "$STREAMD_TOML"
    remove_run_dir
}

# remove_folder NAME: or says why it has to stay.
remove_folder() {
    local folder="$RUN_DIR/$1" mount
    if [[ ! -e $folder && ! -L $folder ]]; then return 0; fi
    mount=$(mount_in "$folder")
    if [[ -L $folder ]]; then
        warn "$folder is a link now, which up.sh didn't make: left in place"
        return 0
    elif [[ -n $mount ]]; then
        warn "$folder is left in place: something is mounted at $mount"
        return 0
    fi
    case $1 in
        tls) "$SCRIPTS_DIR/tls-cert.sh" --remove "$folder" >/dev/null ;;
        www) remove_samples ;;
        *) rm -rf --one-file-system -- "$folder" ;;
    esac
}

# The served folder holds what its user put there, besides.
remove_samples() {
    remove_if_unchanged www/hello.txt "$HELLO"
    if [[ $(ls -A "$RUN_DIR/www") == .streamd-uploads ]]; then rm -rf --one-file-system -- "$RUN_DIR/www/.streamd-uploads"; fi
    rmdir -- "$RUN_DIR/www" 2>/dev/null || true
}

# remove_if_unchanged NAME TEXT: a file that up.sh wrote, unless it has become somebody's own.
remove_if_unchanged() {
    local file="$RUN_DIR/$1"
    if is_made "$1" && [[ -f $file && ! -L $file && $(<"$file") == "$2" ]]; then rm -f -- "$file"; fi
}

# Prints the first mount point at or below a folder. One of the same file system (mount --bind) is crossed by
# rm --one-file-system.
mount_in() {
    local point
    while read -r _ _ _ _ point _; do
        # proc(5): blanks and backslashes in it are octal numbers.
        printf -v point '%b' "${point//\\/\\0}"
        if [[ $point == "$1" || $point == "$1"/* ]]; then
            printf '%s' "$point"
            return 0
        fi
    done </proc/self/mountinfo
}

remove_run_dir() {
    local left
    mapfile -t left < <(ls -A -I stack.made "$RUN_DIR")
    if ((${#left[@]})); then
        say "removed the state in $RUN_DIR; left in place: ${left[*]}"
        forget_removed
        return 0
    fi
    say "removed the state in $RUN_DIR"
    if is_made .; then rm -f -- "$MADE_FILE" && rmdir -- "$RUN_DIR"; else rm -f -- "$MADE_FILE"; fi
}

# A file made under one of these names from now on is somebody else's. The lock is this script's until its end.
forget_removed() {
    local name kept=(lock)
    while IFS= read -r name; do
        if [[ $name != lock && -e $RUN_DIR/$name ]]; then kept+=("$name"); fi
    done <"$MADE_FILE"
    write_file "$MADE_FILE.new" "${kept[@]}"
    mv -f -T -- "$MADE_FILE.new" "$MADE_FILE"
}
