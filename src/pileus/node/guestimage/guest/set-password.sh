#!/bin/sh
# Reads NAME:PASSWORD on standard input and writes the hash to /etc/shadow.
# "set-password encrypted" takes NAME:HASH.
export PATH=/usr/bin
IFS= read -r line
NAME=${line%%:*}
HASH=${line#*:}
[ "$1" = encrypted ] || HASH=$(printf '%s\n' "$HASH" | mkpasswd -m sha512 -P 0)
export NAME HASH
umask 077
awk -F: -v OFS=: '$1 == ENVIRON["NAME"] {$2 = ENVIRON["HASH"]; found = 1} {print} END {exit !found}' \
    /etc/shadow >/etc/shadow.new && mv /etc/shadow.new /etc/shadow
