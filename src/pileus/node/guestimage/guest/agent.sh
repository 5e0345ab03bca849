#!/bin/sh
# A small QEMU guest agent on the virtio port org.qemu.guest_agent.0: the commands that a cloud needs.
export PATH=/usr/bin
umask 077
# A port appears some time after its driver, and learns its name only after that.
tries=0
while [ -z "$device" ] && [ $tries -lt 50 ]; do
    for port in /sys/class/virtio-ports/*; do
        read -r name <"$port/name" && [ "$name" = org.qemu.guest_agent.0 ] && device=/dev/${port##*/}
    done 2>/dev/null
    tries=$((tries + 1))
    [ -n "$device" ] || sleep 0.2
done
[ -n "$device" ] && mkdir /run/pileus/agent 2>/dev/null || exit 0
value() { printf '%b' "$(awk -F'\t' -v key="$1" '$1 == key {print $2}' /run/pileus/agent/request)"; }
# An answer bears its request's id, as it was written: clients wait for that.
answer() { printf '%s%s}\n' "${1%\}}" "${id:+, \"id\": $id}" >&3; }
refuse() { answer "{\"error\": {\"class\": \"$1\", \"desc\": \"$2\"}}"; }
commands='guest-sync guest-sync-delimited guest-ping guest-info guest-set-user-password guest-shutdown guest-fsfreeze-freeze guest-fsfreeze-thaw guest-fsfreeze-status'

set_user_password() {
    password=$(value arguments.password | base64 -d)
    mode=
    [ "$(value arguments.crypted)" = true ] && mode=encrypted
    if printf '%s:%s\n' "$(value arguments.username)" "$password" | /usr/lib/pileus/set-password $mode; then
        answer '{"return": {}}'
    else
        refuse GenericError "no such user"
    fi
}

info() {
    list=
    for name in $commands; do
        list="$list${list:+, }{\"name\": \"$name\", \"enabled\": true, \"success-response\": true}"
    done
    answer "{\"return\": {\"version\": \"7.0.0\", \"supported_commands\": [$list]}}"
}

freeze() {
    # Only the root file system is ours to freeze; a second freeze would hang on it.
    [ -e /run/pileus/frozen ] || { sync && : >/run/pileus/frozen && fsfreeze --freeze /; } || { refuse GenericError "fsfreeze failed"; return; }
    answer '{"return": 1}'
}

thaw() {
    [ -e /run/pileus/frozen ] || { answer '{"return": 0}'; return; }
    fsfreeze --unfreeze / && rm -f /run/pileus/frozen && answer '{"return": 1}'
}

status() { [ -e /run/pileus/frozen ] && answer '{"return": "frozen"}' || answer '{"return": "thawed"}'; }

shut_down() {
    case $(value arguments.mode) in
    reboot) reboot ;;
    *) poweroff ;;
    esac
}

respond() {
    # 0xFF before a delimited sync is not JSON: drop what stands before the first brace.
    id=
    printf '{%s\n' "${line#*\{}" | awk -v ids=1 -f /usr/lib/pileus/json.awk >/run/pileus/agent/request 2>/dev/null || {
        refuse GenericError "not JSON"
        return
    }
    id=$(awk -F'\t' '$1 == "written.id" {print $2}' /run/pileus/agent/request)
    case $(value execute) in
    guest-sync) answer "{\"return\": $(value arguments.id)}" ;;
    guest-sync-delimited) printf '\377' >&3; answer "{\"return\": $(value arguments.id)}" ;;
    guest-ping) answer '{"return": {}}' ;;
    guest-info) info ;;
    guest-set-user-password) set_user_password ;;
    guest-shutdown) shut_down ;;
    guest-fsfreeze-freeze) freeze ;;
    guest-fsfreeze-thaw) thaw ;;
    guest-fsfreeze-status) status ;;
    *) refuse CommandNotFound "the command $(value execute) has not been found" ;;
    esac
}

exec 3<>"$device" || exit 1
while :; do
    while IFS= read -r line <&3; do
        respond "$line"
    done
    # The port is at its end whenever nobody on the host holds the other side.
    sleep 1
done
