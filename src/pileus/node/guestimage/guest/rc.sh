#!/bin/sh
# The boot of the system, run once by init before the login prompts. Every process that it does not start
# makes the guest faster: prefer the shell's own words.
export PATH=/usr/bin
lib=/usr/lib/pileus
stage() { [ -z "$trace" ] || { read -r now _ </proc/uptime; echo "pileus: $now $1" >/dev/console; }; }
read -r cmdline </proc/cmdline
case $cmdline in *pileus.trace*) trace=1; export trace ;; esac

mount -t tmpfs -o mode=755,nosuid,nodev run /run
mkdir -p /dev/pts /dev/shm /run/pileus/nic /run/pileus/dns /run/sudo
mount -t devpts -o gid=5,mode=620 devpts /dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev shm /dev/shm
read -r name </etc/hostname
hostname "$name"
ip link set lo up
stage "file systems"

add_nics() {
    for nic in /sys/class/net/*; do
        nic=${nic##*/}
        [ "$nic" = lo ] || [ -d "/run/pileus/nic/$nic" ] || $lib/nic add "$nic"
    done
}
modprobe -a -q virtio_net
add_nics
stage "network interfaces"
modprobe -a -q evdev button $(cat /sys/bus/pci/devices/*/modalias /sys/bus/virtio/devices/*/modalias | sort -u)
# SCSI and IDE buses are searched in the background: with these there, what is found later gets its driver.
set -- /sys/class/scsi_host/*
[ -e "$1" ] && modprobe -a -q sd_mod sr_mod
acpid -l /dev/null
# The watch begins after the boot's own flood of events; what came meanwhile is found by looking again.
uevent $lib/hotplug &
add_nics
[ -d /sys/bus/virtio/drivers/virtio_console ] && $lib/agent &
stage "devices"

key=/etc/dropbear/dropbear_ed25519_host_key
[ -s $key ] || dropbearkey -t ed25519 -f $key >/dev/null 2>&1
stage "host key"
$lib/instance boot
stage "instance"
$lib/grow-root &
read -r now _ </proc/uptime
set -- $(ip -o addr show scope global | awk '{print $2, $4}')
hostname >/run/pileus/name
read -r name </run/pileus/name
for console in /dev/console /dev/tty1; do
    echo "pileus: guest ready $now s after start, host name $name, addresses $*" >$console
done
