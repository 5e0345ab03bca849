#!/bin/sh
# instance boot: learn from the config drive or the metadata service who this server is, and act on it:
# the host name at every boot; keys, password, files and user-data once for each instance id.
export PATH=/usr/bin
umask 022
url=http://169.254.169.254
lib=/usr/lib/pileus
state=/var/lib/pileus
data=/run/pileus/data
# The password is in there: the folder is for root alone.
meta=$data/flat
say() { echo "pileus: $*" >/dev/console; echo "pileus: $*" >/dev/tty1; }
get() { timeout 4 wget -q -O "$2" "$url/$1" 2>/dev/null || { rm -f "$2"; return 1; }; }
stage() { [ -z "$trace" ] || { read -r now _ </proc/uptime; echo "pileus: $now $1" >/dev/console; }; }

restart_sshd() {
    if [ -s /run/dropbear.pid ]; then
        read -r pid </run/dropbear.pid
        kill "$pid" 2>/dev/null && sleep 0.2
    fi
    dropbear -R -P /run/dropbear.pid
}

from_config_drive() {
    drive=/run/pileus/drive
    device=$(findfs LABEL=config-2 2>/dev/null || findfs LABEL=CONFIG-2 2>/dev/null) || return 1
    mkdir -p /dev/disk/by-label $drive
    ln -sf "$device" /dev/disk/by-label/config-2
    mount -r -t iso9660 "$device" $drive 2>/dev/null || mount -r -t vfat "$device" $drive || {
        say "the config drive $device cannot be mounted"
        return 1
    }
    cp -r $drive/openstack/latest/. $data/
    [ -d $drive/openstack/content ] && cp -r $drive/openstack/content $data/
    umount $drive
    awk -f $lib/json.awk $data/meta_data.json >$meta || say "the config drive has no readable meta_data.json"
}

from_openstack() {
    get openstack/latest/meta_data.json $data/meta_data.json || return 1
    awk -f $lib/json.awk $data/meta_data.json >$meta || return 1
    get openstack/latest/user_data $data/user_data
    mkdir -p $data/content
    while IFS='	' read -r path value; do
        case $path in files.*.content_path) get "openstack$value" "$data$value" ;; esac
    done <$meta
    return 0
}

from_ec2() {
    get latest/meta-data/instance-id $data/id || return 1
    read -r id <$data/id || [ -n "$id" ]
    name=
    get latest/meta-data/hostname $data/hostname && { read -r name <$data/hostname || [ -n "$name" ]; }
    {
        printf 'uuid\t%s\nhostname\t%s\n' "$id" "$name"
        get latest/meta-data/public-keys/ $data/keys && while IFS='=' read -r number _ || [ -n "$number" ]; do
            get "latest/meta-data/public-keys/$number/openssh-key" $data/key &&
                printf 'public_keys.%s\t%s\n' "$number" "$(cat $data/key)"
        done <$data/keys
    } >$meta
    get latest/user-data $data/user_data
    return 0
}

from_network() { from_openstack || from_ec2; }

# $meta into variables: id, fqdn, password, and the keys into a file. Values are escaped for printf %b.
read_meta() {
    id= fqdn= password=
    : >/run/pileus/keys
    while IFS='	' read -r path value; do
        case $path in
        uuid) id=$value ;;
        hostname) fqdn=$value ;;
        admin_pass) password=$(printf '%b' "$value") ;;
        meta.admin_pass) [ -n "$password" ] || password=$(printf '%b' "$value") ;;
        public_keys.* | keys.*.data) printf '%b\n' "$value" >>/run/pileus/keys ;;
        esac
    done <$meta
}

set_hostname() {
    name=${fqdn%%.*}
    case $name in '' | *[!A-Za-z0-9-]*) return ;; esac
    read -r old </etc/hostname
    hostname "$name"
    [ "$name" = "$old" ] && return
    echo "$name" >/etc/hostname
    [ "$name" = "$fqdn" ] && fqdn=
    printf '127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t%s\n' "${fqdn:+$fqdn }$name" >/etc/hosts
}

set_keys() {
    awk 'NF && !seen[$0]++' /run/pileus/keys >/run/pileus/authorized_keys
    for home in /root /home/pileus; do
        mkdir -p -m 700 $home/.ssh
        install_keys=$home/.ssh/authorized_keys
        cp /run/pileus/authorized_keys $install_keys && chmod 600 $install_keys
    done
    chown -R pileus:pileus /home/pileus/.ssh
}

set_password() {
    [ -z "$password" ] || printf 'pileus:%s\n' "$password" | $lib/set-password
}

write_files() {
    content=
    target=
    while IFS='	' read -r path value; do
        case $path in
        files.*.content_path) content=$value ;;
        files.*.path) target=$(printf '%b' "$value") ;;
        *) continue ;;
        esac
        if [ -n "$content" ] && [ -n "$target" ]; then
            mkdir -p "${target%/*}/" && cp "$data$content" "$target"
            content=
            target=
        fi
    done <$meta
}

run_user_data() {
    [ -s $data/user_data ] || return
    read -r first <$data/user_data
    case $first in
    '#!'*) ;;
    *)
        say "user-data does not begin with #! and is not run"
        return
        ;;
    esac
    cp $data/user_data $state/user-data && chmod 700 $state/user-data
    HOME=/root $state/user-data 2>&1 </dev/null | tee /var/log/user-data.log >/dev/console
}

apply() {
    read_meta
    set_hostname
    known=
    [ -s $state/instance-id ] && read -r known <$state/instance-id
    [ "$id" = "$known" ] && return
    say "this is instance $id"
    set_keys
    # A disk that comes from another server brings host keys that must not be ours.
    [ -z "$known" ] || rm -f /etc/dropbear/*_host_key
    restart_sshd
    set_password
    write_files
    echo "$id" >$state/instance-id
    sync
    stage "applied"
    run_user_data &
}

leased() {
    for lease in /run/pileus/nic/*/lease; do
        [ -e "$lease" ] && return 0
    done
    return 1
}

nics() {
    for nic in /run/pileus/nic/*; do
        [ -e "$nic" ] && return 0
    done
    return 1
}

# The first attempt holds the login prompt back for a few seconds at most.
early_attempt() {
    tries=0
    while nics && ! leased && [ $tries -lt 40 ]; do
        sleep 0.1
        [ -b /dev/sr0 ] && from_config_drive && return
        tries=$((tries + 1))
    done
    leased && from_network
}

late_attempts() {
    tries=0
    while [ $tries -lt 120 ]; do
        sleep 3
        if from_config_drive || { leased && from_network; }; then
            apply
            return
        fi
        tries=$((tries + 1))
    done
    say "no metadata was found, on a config drive or at $url"
}

mkdir -p -m 700 $data $state
if from_config_drive || early_attempt; then
    stage "metadata"
    apply
else
    late_attempts &
fi
[ -s /run/dropbear.pid ] || restart_sshd
