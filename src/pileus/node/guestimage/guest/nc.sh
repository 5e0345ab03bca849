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
    [ -n "$keep" ] && exec busybox nd -ll -p "$port" -e "$@"
    exec busybox nd -l -p "$port" -e "$@"
fi
while :; do
    "$@" | nc.openbsd -u -l -w 1 -p "$port"
    [ -n "$keep" ] || exit 0
done
