#!/bin/sh
# The boot of the system, run once by init before the login prompts.
export PATH=/usr/bin
lib=/usr/lib/pileus
say() { echo "pileus: $*" | tee /dev/tty1 >/dev/console; }

mount -t tmpfs -o mode=755,nosuid,nodev run /run
mount -t tmpfs -o mode=1777,nosuid,nodev shm /dev/shm 2>/dev/null || {
    mkdir -p /dev/shm && mount -t tmpfs -o mode=1777,nosuid,nodev shm /dev/shm
}
mkdir -p /dev/pts /run/pileus/nic /run/pileus/dns /run/sudo
mount -t devpts -o gid=5,mode=620 devpts /dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmp /tmp
hostname -F /etc/hostname
ip link set lo up

# Listen first, then look at what is there already: no NIC falls between.
uevent $lib/hotplug &
modprobe -a -q virtio_net
for nic in /sys/class/net/*; do
    nic=${nic##*/}
    [ "$nic" = lo ] || $lib/nic add "$nic"
done
modprobe -a -q evdev button $(cat /sys/bus/*/devices/*/modalias | sort -u)
acpid -l /dev/null
$lib/agent &
$lib/grow-root &

for type in ed25519 ecdsa; do
    key=/etc/dropbear/dropbear_${type}_host_key
    [ -s $key ] || dropbearkey -t $type -f $key >/dev/null 2>&1
done
$lib/instance boot
say "guest ready $(cut -d' ' -f1 /proc/uptime) s after start, host name $(hostname)," \
    "addresses $(ip -o addr show scope global | awk '{printf "%s %s; ", $2, $4}')"
