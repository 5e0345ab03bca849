# The first process of a machine of the lab: makes its files and mounts, and then only sees that nothing stays a zombie.
# Arguments: its name, its folder, and the folders below /root and /tmp that Pileus runs from.
set -eu
read -r outer rest </proc/self/stat   # the pid that those outside see: this /proc is still theirs
name=$1 folder=$2
shift 2
echo "$outer"
read -r go   # without it nobody has written down that this process is there: it ends

mount -t proc proc /proc
mount -t sysfs sysfs /sys
hostname "$name"
mount -t tmpfs -o mode=755 run /run
mkdir -p /run/netns /run/lock /run/kept /run/etc
chmod 1777 /run/lock
for path; do mkdir -p "/run/kept$path" && mount --bind "$path" "/run/kept$path"; done

# Its /etc has what is in the host's, to be read there, and files of its own where these would tell it another's names.
mount --bind /etc /run/etc
mount -o remount,bind,ro /run/etc
if [ ! -e "$folder/made" ]; then
    for place in etc var/log var/lib; do rm -rf "${folder:?}/$place" && mkdir -p "$folder/$place"; done
    ln -s -t "$folder/etc" /run/etc/*
    find /etc -maxdepth 1 -type l -exec cp -P --remove-destination -t "$folder/etc" {} +
    (
        cd "$folder/etc"
        rm -rf hosts hostname resolv.conf passwd group subuid subgid shadow gshadow ./*- pileus haproxy openstack
        cp /run/etc/passwd /run/etc/group .
        (umask 077 && touch shadow gshadow)
        echo "$name" >hostname
        echo '# no name server: the lab is closed' >resolv.conf
    )
    touch "$folder/made"
fi
for place in etc var/log var/lib; do mount --bind "$folder/$place" "/$place"; done
# Last, as the lab's folder may be in /tmp. Programs of two machines with one pid would meet in a common one.
mount -t tmpfs -o mode=711 root /root   # a server that is not root reaches its Python there
mount -t tmpfs -o mode=1777 tmp /tmp
for path; do mkdir -p "$path" && mount --move "/run/kept$path" "$path"; done
rm -r /run/kept
ip link set lo up
echo ready

trap '' HUP INT TERM
exec </dev/null >/dev/null 2>&1
while :; do sleep 86400 & wait "$!"; done   # reaps what others leave
