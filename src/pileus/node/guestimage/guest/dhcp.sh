#!/bin/sh
# What udhcpc found out ($interface, $ip, $mask, $router, $staticroutes, $dns, $search, $mtu), put into force.
export PATH=/usr/bin

# The metric orders the interfaces, so that the first one with a default route has it alone in effect.
metric=$((100 + $(cat "/sys/class/net/$interface/ifindex" 2>/dev/null || echo 900)))

route() {
    if [ "$2" = 0.0.0.0 ]; then
        ip route replace "$1" dev "$interface" metric $metric
    else
        ip route replace "$1" via "$2" dev "$interface" onlink metric $metric
    fi
}

write_resolv_conf() {
    cat /run/pileus/dns/* 2>/dev/null | awk '!seen[$0]++' >/run/pileus/resolv.conf.new
    mv /run/pileus/resolv.conf.new /run/pileus/resolv.conf
}

case $1 in
deconfig)
    rm -f "/run/pileus/dns/$interface" "/run/pileus/nic/$interface/lease"
    [ -e "/sys/class/net/$interface" ] && ip -4 addr flush dev "$interface"
    write_resolv_conf
    ;;
bound | renew)
    [ -n "$mtu" ] && ip link set "$interface" mtu "$mtu"
    ip -4 -o addr show dev "$interface" | grep -q " $ip/${mask:-24} " || {
        ip -4 addr flush dev "$interface"
        ip addr add "$ip/${mask:-24}" broadcast + dev "$interface"
    }
    if [ -n "$staticroutes" ]; then
        # RFC 3442: with classless routes the router option is not looked at.
        set -- $staticroutes
        while [ $# -ge 2 ]; do
            route "$1" "$2"
            shift 2
        done
    elif [ -n "$router" ]; then
        route default "${router%% *}"
    fi
    {
        [ -n "${search:-$domain}" ] && echo "search ${search:-$domain}"
        for server in $dns; do echo "nameserver $server"; done
    } >"/run/pileus/dns/$interface"
    write_resolv_conf
    echo "$ip" >"/run/pileus/nic/$interface/lease"
    ;;
esac
exit 0
