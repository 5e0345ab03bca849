"""What goes into the guest: packages, programs, kernel modules, and the files of its own."""

# Programs, by package: the path in the package (without regard to /usr) and the path in the guest.
PROGRAMS: dict[str, dict[str, str]] = {
    "busybox-static": {"bin/busybox": "usr/bin/busybox"},
    "dropbear-bin": {"sbin/dropbear": "usr/bin/dropbear", "bin/dropbearkey": "usr/bin/dropbearkey"},
    "e2fsprogs": {
        "sbin/mke2fs": "usr/bin/mke2fs",
        "sbin/e2fsck": "usr/bin/e2fsck",
        "sbin/resize2fs": "usr/bin/resize2fs",
        "etc/mke2fs.conf": "etc/mke2fs.conf",
    },
    "util-linux": {"bin/lsblk": "usr/bin/lsblk", "sbin/blkid": "usr/bin/blkid", "sbin/mkfs": "usr/bin/mkfs"},
    "dosfstools": {"sbin/mkfs.fat": "usr/bin/mkfs.fat"},
    "netcat-openbsd": {"bin/nc.openbsd": "usr/bin/nc.openbsd"},
    "sudo": {
        "bin/sudo": "usr/bin/sudo",
        "libexec/sudo/sudoers.so": "usr/libexec/sudo/sudoers.so",
        "libexec/sudo/libsudo_util.so.0": "usr/libexec/sudo/libsudo_util.so.0",
    },
    "libpam-modules": {
        "lib/x86_64-linux-gnu/security/pam_permit.so": "usr/lib/x86_64-linux-gnu/security/pam_permit.so",
    },
}

# Where the shared libraries that those programs need are looked for.
LIBRARIES = (
    "libc6", "libcrypt1", "libtomcrypt1", "libtommath1", "zlib1g", "libgmp10", "libblkid1", "libcom-err2", "libext2fs2",
    "libuuid1", "libmount1", "libsmartcols1", "libudev1", "libtinfo6", "libselinux1", "libpcre2-8-0",
    "libaudit1", "libcap-ng0", "libpam0g", "libbsd0", "libmd0",
)  # fmt: skip

# Used while building and not part of the guest (e2fsprogs, dosfstools and their libraries serve for both).
TOOLS = ("mtools", "syslinux", "syslinux-common")

# The order in which they can be loaded one by one; the first six are all that a virtio-blk root needs.
BOOT_MODULES = (
    "virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk",
    "scsi_common", "scsi_mod", "sd_mod", "virtio_scsi", "libata", "ata_piix",
)  # fmt: skip

# Loaded by device alias or on demand; what they depend on comes along.
MODULES = (
    *BOOT_MODULES, "virtio_net", "virtio-rng", "virtio_console", "virtio_balloon", "evdev", "button", "cdrom", "sr_mod",
    "isofs", "vfat", "nls_cp437", "nls_ascii", "nls_utf8", "nls_iso8859-1", "8021q",
)  # fmt: skip

LINKS = {
    "bin": "usr/bin", "sbin": "usr/bin", "usr/sbin": "bin", "lib": "usr/lib", "lib64": "usr/lib64",
    "init": "usr/bin/init", "var/run": "/run", "etc/resolv.conf": "/run/pileus/resolv.conf",
    "etc/mtab": "/proc/mounts", "usr/bin/mkfs.ext2": "mke2fs", "usr/bin/mkfs.ext3": "mke2fs",
    "usr/bin/mkfs.ext4": "mke2fs", "usr/bin/mkfs.vfat": "mkfs.fat", "usr/bin/fsck.ext4": "e2fsck",
}  # fmt: skip

FOLDERS = (
    "dev", "proc", "sys", "run", "tmp", "mnt", "media", "root", "home/pileus", "etc/dropbear", "var/log", "var/tmp",
    "var/lib/pileus",
)  # fmt: skip

# Scripts of our own: the file in the package data and the path in the guest.
SCRIPTS = {
    "rc.sh": "usr/lib/pileus/rc",
    "hotplug.sh": "usr/lib/pileus/hotplug",
    "nic.sh": "usr/lib/pileus/nic",
    "dhcp.sh": "usr/lib/pileus/dhcp",
    "grow-root.sh": "usr/lib/pileus/grow-root",
    "instance.sh": "usr/lib/pileus/instance",
    "set-password.sh": "usr/lib/pileus/set-password",
    "agent.sh": "usr/lib/pileus/agent",
    "json.awk.txt": "usr/lib/pileus/json.awk",
    "nc.sh": "usr/bin/nc",
    "curl.sh": "usr/bin/curl",
}

# sudoers decides; PAM has no second opinion, and without a file "other" it denies everything else.
_PERMIT = "auth sufficient pam_permit.so\naccount sufficient pam_permit.so\nsession sufficient pam_permit.so\n"

# Both users are locked until a key or a password arrives: an image with a known password is an open door.
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\npileus:x:1000:1000:Pileus:/home/pileus:/bin/sh\n",
    "etc/group": "root:x:0:\ntty:x:5:\ndisk:x:6:\nsudo:x:27:pileus\npileus:x:1000:\n",
    "etc/shadow": "root:*:19000:0:99999:7:::\npileus:*:19000:0:99999:7:::\n",
    "etc/shells": "/bin/sh\n",
    "etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n",
    "etc/hostname": "guest\n",
    "etc/hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\tguest\n",
    "etc/issue": "Pileus guest \\r \\l\n",
    "etc/profile": "export PATH=/usr/bin\nexport PS1='\\u@\\h:\\w\\$ '\n",
    "etc/filesystems": "ext4\nvfat\niso9660\n*\n",
    "etc/os-release": 'ID=pileus-guest\nID_LIKE=debian\nNAME="Pileus guest"\n',
    "etc/inittab": (
        "::sysinit:/usr/lib/pileus/rc\n"
        "ttyS0::respawn:/usr/bin/getty -L 115200 ttyS0 vt100\n"
        "tty1::respawn:/usr/bin/getty 38400 tty1 linux\n"
        "::ctrlaltdel:/usr/bin/reboot\n"
        "::shutdown:/usr/bin/umount -a -r\n"
    ),
    "etc/sudoers": (
        "Defaults secure_path=/usr/bin\nDefaults !syslog, !lecture, !use_pty\n"
        "root ALL=(ALL:ALL) NOPASSWD: ALL\n%sudo ALL=(ALL:ALL) NOPASSWD: ALL\n"
    ),
    "etc/sudo.conf": "Plugin sudoers_policy sudoers.so\nPlugin sudoers_io sudoers.so\nSet disable_coredump false\n",
    "etc/pam.d/sudo": _PERMIT,
    "etc/pam.d/sudo-i": _PERMIT,
    "etc/acpi/PWRF/00000080": "#!/bin/sh\nexec /usr/bin/poweroff\n",
    "root/.profile": "",
}

EXECUTABLE = ("etc/acpi/PWRF/00000080",)

# Modes other than 0755 for folders and programs and 0644 for files, set in the file system image.
# busybox gives up root at once for every applet but those that need it for everyone (ping, su, passwd).
MODES = {
    "usr/bin/sudo": 0o4755, "usr/bin/busybox": 0o4755, "etc/shadow": 0o600, "etc/sudoers": 0o440,
    "root": 0o700, "etc/dropbear": 0o700, "tmp": 0o1777, "var/tmp": 0o1777,
}  # fmt: skip

OWNERS = {"home/pileus": 1000}

SYSLINUX_CONFIG = """\
SERIAL 0 115200
DEFAULT linux
PROMPT 0
TIMEOUT 1
LABEL linux
 LINUX /vmlinuz
 INITRD /initrd.gz
 APPEND rw console=tty1 console=ttyS0,115200 loglevel=5 tsc=reliable no_timer_check random.trust_cpu=on \
net.ifnames=0 mitigations=off
"""
