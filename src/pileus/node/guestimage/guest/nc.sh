#!/bin/sh
# nc: OpenBSD's netcat, plus "-e PROGRAM ARGUMENTS" with -l, which serves a program (to everyone with -k).
# nd is busybox's own nc: the builder renames it, because busybox's shell prefers its applets to programs.
keep=
listen=
udp=
port=
for argument in "$@"; do
    [ "$argument" = -e ] && served=1
done
[ -n "$served" ] || exec nc.openbsd "$@"
while [ $# -gt 0 ]; do
    case $1 in
    -e) shift; break ;;
    -p) port=$2; shift ;;
    -[lkunv46]*)
        case $1 in *l*) listen=1 ;; esac
        case $1 in *k*) keep=1 ;; esac
        case $1 in *u*) udp=1 ;; esac
        ;;
    *) echo "nc: $1 is not supported together with -e" >&2; exit 1 ;;
    esac
    shift
done
if [ -z "$listen" ] || [ -z "$port" ] || [ $# = 0 ]; then
    echo "nc: -e needs -l, -p PORT and a program" >&2
    exit 1
fi
if [ -z "$udp" ]; then
    # What the other side sends is read to the end: a socket that is closed with input unread is reset, and a reset may
    # overtake the answer.
    [ -n "$keep" ] && more=-ll || more=-l
    exec busybox nd $more -p "$port" -e /bin/sh -c '"$@"; timeout 1 cat >/dev/null' sh "$@"
fi
while :; do
    "$@" | nc.openbsd -u -l -w 1 -p "$port"
    [ -n "$keep" ] || exit 0
done
