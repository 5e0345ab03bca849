#!/bin/sh
# The initramfs has grown the partition; let the mounted file system follow, once for each size.
export PATH=/usr/bin
device=$(awk '$2 == "/" && $1 ~ /^\/dev\// {print $1}' /proc/mounts)
size=$(cat "/sys/class/block/${device#/dev/}/size")
[ "$size" = "$(cat /var/lib/pileus/root-size 2>/dev/null)" ] && exit 0
if resize2fs "$device" >/var/log/grow-root.log 2>&1; then
    echo "$size" >/var/lib/pileus/root-size
else
    echo "pileus: the root file system was not grown, see /var/log/grow-root.log" >/dev/console
fi
