# The first process of a machine of the lab: makes its mounts, and then only sees that nothing stays a zombie.
# Arguments: its name, its folder, and the folders below /root that Pileus runs from.
set -eu
read -r outer rest </proc/self/stat   # the pid that those outside see: this /proc is still theirs
name=$1 folder=$2
shift 2
mount -t proc proc /proc
mount -t sysfs sysfs /sys
hostname "$name"
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/netns /run/lock
chmod 1777 /run/lock
mkdir /run/kept
for path; do mkdir -p "/run/kept$path" && mount --bind "$path" "/run/kept$path"; done
mount -t tmpfs -o mode=711 root /root   # a server that is not root reaches its Python there
for path; do mkdir -p "$path" && mount --move "/run/kept$path" "$path"; done
rm -r /run/kept
for place in etc var/log var/lib; do mount --bind "$folder/$place" "/$place"; done
ip link set lo up
echo "$outer"
read -r go   # without it nobody has written down that this process is there: it ends
trap '' HUP INT TERM
exec </dev/null >/dev/null 2>&1
while :; do sleep 86400 & wait "$!"; done   # reaps what others leave
