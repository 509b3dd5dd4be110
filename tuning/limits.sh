# What memory/, files/ and priority/ share: one drop-in file of /etc/security/limits.d each. Sourced, not run.

need_root() {
    if [ "$(id -u)" != 0 ]; then
        echo "$0: needs root; run it with sudo" >&2
        exit 1
    fi
}

# write_limits NAME FILE LIMIT VALUE [USER]: gives USER the limit, unless the file says so already.
write_limits() {
    name=$1 file=$2 limit=$3 value=$4 user=${5:-${SUDO_USER:-root}}
    if ! id "$user" > /dev/null 2>&1; then
        echo "$0: there is no user '$user'; give the one that runs the broker: $0 USER" >&2
        exit 1
    fi
    content="# Written by corelog's tuning/$name/apply; tuning/$name/undo removes it.
$user soft $limit $value
$user hard $limit $value"
    if [ -f "$file" ] && [ "$(cat "$file")" = "$content" ]; then
        echo "$name: $file is as it should be"
        return
    fi
    mkdir -p "$(dirname "$file")"
    printf '%s\n' "$content" > "$file.new"
    mv "$file.new" "$file"
    echo "$name: wrote $file: $limit $value for $user, from the next log-in on"
}

# remove_file NAME FILE: takes the file away if it is ours.
remove_file() {
    name=$1 file=$2
    if [ ! -e "$file" ]; then
        echo "$name: nothing to undo: $file is not there"
        return
    fi
    if ! grep -q "^# Written by corelog's tuning/$name/apply" "$file"; then
        echo "$0: $file was not written by corelog; left as it is" >&2
        exit 1
    fi
    rm "$file"
    echo "$name: removed $file"
}
