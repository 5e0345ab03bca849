#!/bin/sh
# nic add|remove NAME: bring a network interface up with DHCP, or forget one that is gone.
# IPv6 needs no more than the link: the kernel configures itself from router advertisements.
export PATH=/usr/bin
nic=$2
pid=/run/udhcpc.$nic.pid
case $1 in
add)
    mkdir "/run/pileus/nic/$nic" 2>/dev/null || exit 0
    ip link set "$nic" up
    udhcpc -f -i "$nic" -p "$pid" -s /usr/lib/pileus/dhcp -t 5 -T 1 -A 3 \
        -O search -O mtu -O staticroutes >/dev/null 2>&1 </dev/null &
    ;;
remove)
    [ -s "$pid" ] && kill "$(cat "$pid")" 2>/dev/null
    rm -rf "/run/pileus/nic/$nic" "$pid"
    interface=$nic /usr/lib/pileus/dhcp deconfig
    ;;
esac
