#!/bin/sh
# The initramfs: load what the root disk needs, grow its partition to the disk, and switch to it.
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk; do
    insmod "/modules/$module.ko"
done

find_root() {
    for disk in vda sda; do
        [ -b "/dev/${disk}2" ] && return 0
    done
    return 1
}

# Partition 2 is the last one, so only its length in the MBR changes (32 bits, little endian, at 446 + 16 + 12).
grow_partition() {
    part=/sys/block/$disk/${disk}2
    start=$(cat "$part/start")
    want=$(($(cat "/sys/block/$disk/size") - start))
    [ "$want" -gt 4294967295 ] && want=4294967295
    [ $((want - $(cat "$part/size"))) -lt 2048 ] && return
    bytes=
    for shift in 0 8 16 24; do
        bytes="$bytes$(printf '\\%03o' $(((want >> shift) & 255)))"
    done
    printf "$bytes" | dd of="/dev/$disk" bs=1 seek=474 conv=notrunc 2>/dev/null
    sync
    blockdev --rereadpt "/dev/$disk" || echo "pileus: the kernel kept the old size of /dev/${disk}2"
}

if ! find_root; then
    # Not on virtio-blk: SCSI and IDE disks are probed in the background and need a moment.
    for module in scsi_common scsi_mod sd_mod virtio_scsi libata ata_piix; do
        insmod "/modules/$module.ko"
    done
    tries=0
    while ! find_root && [ $tries -lt 100 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
fi
if find_root; then
    grow_partition
    tries=0
    while ! find_root && [ $tries -lt 20 ]; do
        sleep 0.1
        tries=$((tries + 1))
    done
    if mount -t ext4 "/dev/${disk}2" /newroot; then
        for directory in proc sys dev; do
            mount --move "/$directory" "/newroot/$directory"
        done
        exec switch_root /newroot /sbin/init
    fi
fi
echo "pileus: no root file system on /dev/vda2 or /dev/sda2; this is the rescue shell"
exec sh
