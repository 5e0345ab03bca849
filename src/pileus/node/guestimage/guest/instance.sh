#!/bin/sh
# instance boot: learn from the config drive or the metadata service who this server is, and act on it:
# host name and files at once, keys, password and user-data once for each instance id.
export PATH=/usr/bin
umask 022
url=http://169.254.169.254
state=/var/lib/pileus
data=/run/pileus/data
meta=/run/pileus/meta
say() { echo "pileus: $*" | tee /dev/tty1 >/dev/console; }
get() { timeout 4 wget -q -O "$2" "$url/$1" 2>/dev/null || { rm -f "$2"; return 1; }; }
values() { awk -F'\t' -v key="$1" 'match($1, "^(" key ")$") {print $2}' $meta | while read -r v; do printf '%b\n' "$v"; done; }

restart_sshd() {
    [ -s /run/dropbear.pid ] && kill "$(cat /run/dropbear.pid)" 2>/dev/null && sleep 0.2
    dropbear -R -P /run/dropbear.pid
}

from_config_drive() {
    device=$(findfs LABEL=config-2 2>/dev/null || findfs LABEL=CONFIG-2 2>/dev/null) || return 1
    mkdir -p /dev/disk/by-label /run/pileus/drive
    ln -sf "$device" /dev/disk/by-label/config-2
    mount -o ro "$device" /run/pileus/drive || { say "the config drive $device cannot be mounted"; return 1; }
    cp -r /run/pileus/drive/openstack/latest /run/pileus/drive/openstack/content $data/ 2>/dev/null
    umount /run/pileus/drive
    mv $data/latest/* $data/
    [ -s $data/meta_data.json ] && awk -f /usr/lib/pileus/json.awk $data/meta_data.json >$meta
}

from_openstack() {
    get openstack/latest/meta_data.json $data/meta_data.json || return 1
    awk -f /usr/lib/pileus/json.awk $data/meta_data.json >$meta || return 1
    get openstack/latest/user_data $data/user_data
    mkdir -p $data/content
    for path in $(values 'files\.[0-9]+\.content_path'); do
        get "openstack$path" "$data$path"
    done
    return 0
}

from_ec2() {
    get latest/meta-data/instance-id $data/id || return 1
    get latest/meta-data/hostname $data/hostname
    {
        printf 'uuid\t%s\n' "$(cat $data/id)"
        printf 'hostname\t%s\n' "$(cat $data/hostname 2>/dev/null)"
        get latest/meta-data/public-keys/ $data/keys && while IFS='=' read -r number _ || [ -n "$number" ]; do
            get "latest/meta-data/public-keys/$number/openssh-key" $data/key &&
                printf 'public_keys.%s\t%s\n' "$number" "$(cat $data/key)"
        done <$data/keys
    } >$meta
    get latest/user-data $data/user_data
    return 0
}

set_hostname() {
    fqdn=$(values hostname | head -n1)
    name=${fqdn%%.*}
    case $name in '' | *[!A-Za-z0-9-]*) return ;; esac
    hostname "$name"
    echo "$name" >/etc/hostname
    printf '127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t%s\n' "$(echo "$fqdn $name" | xargs -n1 | awk '!s[$0]++' | xargs)" >/etc/hosts
}

set_keys() {
    { values 'public_keys\.[^\t]*'; values 'keys\.[0-9]+\.data'; } | awk 'NF && !seen[$0]++' >/run/pileus/keys
    for home in /root /home/pileus; do
        mkdir -p $home/.ssh && chmod 700 $home/.ssh
        cp /run/pileus/keys $home/.ssh/authorized_keys && chmod 600 $home/.ssh/authorized_keys
    done
    chown -R pileus:pileus /home/pileus/.ssh
}

set_password() {
    password=$(values 'admin_pass' | head -n1)
    [ -n "$password" ] || password=$(values 'meta\.admin_pass' | head -n1)
    [ -n "$password" ] || return
    printf 'pileus:%s\n' "$password" | /usr/lib/pileus/set-password
}

write_files() {
    values 'files\.[0-9]+\.path' >/run/pileus/paths
    values 'files\.[0-9]+\.content_path' | while read -r content; do
        read -r path <&3 && mkdir -p "${path%/*}/" && cp "$data$content" "$path"
    done 3</run/pileus/paths
}

run_user_data() {
    [ -s $data/user_data ] || return
    if [ "$(head -c2 $data/user_data)" != '#!' ]; then
        say "user-data does not begin with #! and is not run"
        return
    fi
    mkdir -p $state && cp $data/user_data $state/user-data && chmod 700 $state/user-data
    $state/user-data 2>&1 </dev/null | tee /var/log/user-data.log >/dev/console
}

apply() {
    id=$(values uuid | head -n1)
    set_hostname
    known=$(cat $state/instance-id 2>/dev/null)
    [ "$id" = "$known" ] && return
    say "this is instance $id"
    set_keys
    set_password
    write_files
    if [ -n "$known" ]; then
        # The disk comes from another server: its host keys must not be ours.
        rm -f /etc/dropbear/*_host_key
    fi
    echo "$id" >$state/instance-id
    sync
    restart_sshd
    run_user_data &
}

from_network() { from_openstack || from_ec2; }
leased() { ls /run/pileus/nic/*/lease >/dev/null 2>&1; }
nics() { [ -n "$(ls /run/pileus/nic)" ]; }

# The first attempts hold the login prompt back for about five seconds at most.
early_attempts() {
    tries=0
    while nics && ! leased && [ $tries -lt 40 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    leased && from_network
}

late_attempts() {
    tries=0
    while [ $tries -lt 120 ]; do
        sleep 3
        leased && from_network && apply && return
        tries=$((tries + 1))
    done
    say "no metadata was found, on a config drive or at $url"
}

rm -rf $data
mkdir -p $data $state
chmod 700 $data
if from_config_drive || early_attempts; then
    apply
else
    late_attempts &
fi
[ -s /run/dropbear.pid ] || restart_sshd
