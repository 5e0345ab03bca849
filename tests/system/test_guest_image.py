"""The guest image boots under QEMU, without any part of the cloud around it, and does what a cloud guest must."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cache import CACHE
from tests.ports import free_port

from pileus.node.guestimage import cached

pytestmark = pytest.mark.system

BOOT_SECONDS = 60
USER_DATA = "#!/bin/sh\necho user-data-was-here >/dev/console\necho run >> /root/user-data-runs\n"
REPOSITORY = Path(__file__).parents[2]


def wait_for(what: str, ready: Callable[[], bool], seconds: float = BOOT_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, f"waited {seconds} s for {what}"
        time.sleep(0.1)


class JsonSocket:
    """A line-wise JSON conversation on a unix socket: QMP and the guest agent."""

    def __init__(self, path: Path) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(str(path))
            self._file = connection.makefile("rw")

    def close(self) -> None:
        self._file.close()

    def read(self) -> dict[str, object]:
        answer: dict[str, object] = json.loads(self._file.readline())
        return answer

    def ask(self, execute: str, **arguments: object) -> object:
        self._file.write(json.dumps({"execute": execute, "arguments": arguments}) + "\n")
        self._file.flush()
        while True:
            answer = self.read()
            assert "error" not in answer, answer
            if "return" in answer:
                return answer["return"]


class Guest:
    """One QEMU process with the disk `disk`, on a user-mode network that reaches nothing but the test."""

    def __init__(self, folder: Path, disk: Path, key: Path, *more: str, net: str = "") -> None:
        self.folder, self.key, self.port = folder, key, free_port()
        self.log = folder / f"serial-{self.port}.log"
        self._qmp = folder / f"qmp-{self.port}"
        self._agent = folder / f"agent-{self.port}"
        self.process = subprocess.Popen(
            [
                "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,tb-size=32", "-m", "128", "-nodefaults",
                "-vga", "std", "-display", "none", "-serial", f"file:{self.log}",
                "-qmp", f"unix:{self._qmp},server=on,wait=off",
                "-drive", f"file={disk},if=virtio", "-device", "virtio-rng-pci",
                "-netdev", f"user,id=n0,restrict=on,hostfwd=tcp:127.0.0.1:{self.port}-:22{net}",
                "-device", "virtio-net-pci,netdev=n0", "-netdev", "user,id=n1,restrict=on,net=10.7.7.0/24",
                "-device", "pcie-root-port,id=slot0,slot=1", "-device", "pcie-root-port,id=slot1,slot=2",
                "-chardev", f"socket,id=agent,path={self._agent},server=on,wait=off",
                "-device", "virtio-serial-pci",
                "-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0", *more,
            ]
        )  # fmt: skip
        wait_for("the QMP socket", self._qmp.exists, 10)
        self.monitor = JsonSocket(self._qmp)
        self.monitor.read()
        self.monitor.ask("qmp_capabilities")

    def console(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_for_console(self, text: str) -> None:
        wait_for(f"{text!r} on the console", lambda: text in self.console())

    def _ssh(self, user: str, command: str, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                "ssh", "-p", str(self.port), "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR",
                "-o", "UserKnownHostsFile=/dev/null", "-o", "ConnectTimeout=10", *options, f"{user}@127.0.0.1", command,
            ],
            capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
            env={**os.environ, **environment},
        )  # fmt: skip

    def run(self, command: str, user: str = "pileus") -> str:
        """Runs a command as Tempest does: with its shell prologue."""
        prologue = "set -eu -o pipefail; PATH=$PATH:/sbin; "
        done = self._ssh(user, prologue + command, "-i", str(self.key), "-o", "BatchMode=yes")
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def password_login(self, password: str) -> bool:
        ask = self.folder / "askpass"
        ask.write_text('#!/bin/sh\necho "$GUEST_PASSWORD"\n')
        ask.chmod(0o700)
        options = ("-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=1")
        environment = {"SSH_ASKPASS": str(ask), "SSH_ASKPASS_REQUIRE": "force", "GUEST_PASSWORD": password}
        return self._ssh("pileus", "true", *options, **environment).returncode == 0

    def agent(self) -> contextlib.closing[JsonSocket]:
        return contextlib.closing(JsonSocket(self._agent))

    def power_button(self) -> None:
        self.monitor.ask("system_powerdown")
        assert self.process.wait(30) == 0

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.monitor.close()


def metadata(instance: str, name: str, keys: list[Path], **more: object) -> str:
    public = [path.with_suffix(".pub").read_text() for path in keys]
    return json.dumps(
        {
            "uuid": instance,
            "hostname": f"{name}.novalocal",
            "name": name,
            "public_keys": {"first": public[0]},
            "keys": [{"name": f"k{i}", "type": "ssh", "data": key} for i, key in enumerate(public)],
            "meta": {"text": 'tab\there "quoted" back\\slash é'},
            **more,
        }
    )


def make_key(path: Path, kind: str) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", path], check=True)
    return path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("keys")
    return [make_key(folder / kind, kind) for kind in ("ed25519", "ecdsa", "rsa")]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    image = cached(CACHE)
    path = tmp_path_factory.mktemp("disk") / "disk.qcow2"
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(image.resolve()), str(path), "1G"]
    subprocess.run(command, check=True)
    return path


@pytest.fixture(scope="module")
def config_drive(tmp_path_factory: pytest.TempPathFactory, keys: list[Path]) -> Path:
    folder = tmp_path_factory.mktemp("drive")
    latest, content = folder / "tree/openstack/latest", folder / "tree/openstack/content"
    latest.mkdir(parents=True)
    content.mkdir()
    files = [{"content_path": "/content/0000", "path": "/etc/injected.txt"}]
    text = metadata("id-one", "web-1", keys, admin_pass="p/a$s's\\w&rd", files=files)
    (latest / "meta_data.json").write_text(text)
    (latest / "user_data").write_text(USER_DATA)
    (content / "0000").write_text("injected")
    image = folder / "drive.iso"
    command = ["genisoimage", "-quiet", "-V", "config-2", "-J", "-r", "-o", str(image), str(folder / "tree")]
    subprocess.run(command, check=True)
    return image


@pytest.fixture(scope="module")
def guest(
    tmp_path_factory: pytest.TempPathFactory, disk: Path, keys: list[Path], config_drive: Path
) -> Iterator[Guest]:
    more = ("-drive", f"file={config_drive},if=virtio,format=raw,readonly=on")
    guest = Guest(tmp_path_factory.mktemp("guest"), disk, keys[0], *more)
    try:
        guest.wait_for_console("guest ready")
        yield guest
    finally:
        guest.kill()


def test_config_drive_gives_name_keys_and_user_data(guest: Guest, keys: list[Path]) -> None:
    assert guest.run("hostname") == "web-1"
    assert guest.run("id -un; sudo -n id -un").split() == ["pileus", "root"]
    assert guest.run("id -un", user="root") == "root"
    for key in keys[1:]:
        guest.key = key
        assert guest.run("echo in") == "in"
    guest.key = keys[0]
    guest.wait_for_console("user-data-was-here")
    assert guest.run("sudo cat /root/user-data-runs") == "run"
    assert guest.run("sudo cat /etc/injected.txt") == "injected"


def test_password_of_the_config_drive_logs_in_and_another_does_not(guest: Guest) -> None:
    assert guest.password_login("p/a$s's\\w&rd")
    assert not guest.password_login("wrong")
    assert not guest.password_login("")


def test_password_is_left_nowhere_that_others_can_read(guest: Guest) -> None:
    found = guest.run("grep -rslF 'p/a$s' /run /var /etc /tmp /home /root 2>/dev/null || echo none")
    assert found == "none"


def test_root_file_system_fills_the_disk(guest: Guest) -> None:
    wait_for("the resize", lambda: int(guest.run("df -m / | awk 'END {print $2}'")) > 900, 20)


def test_console_has_boot_log_and_login_prompt(guest: Guest) -> None:
    guest.wait_for_console("web-1 login:")
    guest.run('sudo sh -c "echo \\"from-tempest\\" >/dev/console"')
    guest.wait_for_console("from-tempest")
    picture = guest.folder / "screen.ppm"
    guest.monitor.ask("screendump", filename=str(picture))
    assert len(set(picture.read_bytes()[20:])) > 1, "the screen is blank"


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("cut -f1 -d. /proc/uptime", r"\d+"),
        ("lsblk -lb --nodeps", r"NAME .*TYPE MOUNTPOINTS?\s*\nvda .* 1073741824 +0 disk(.|\n)*"),
        ("blkid -L config-2 -o device", "/dev/vdb"),
        ("ip addr show eth0 | awk '/ether/ {print $2}'", r"52:54:00:.*"),
        ("ip -o addr | awk '/10.0.2.15/ {print $2}'", "eth0"),
        ("sudo /bin/kill -USR1 $(cat /var/run/udhcpc.eth0.pid)", ""),
        ("/bin/ip -o link | grep -c ether", "1"),
        ("ping -c1 -w5 -s56 127.0.0.1 | grep -c '0% packet loss'", "1"),
        ("ping6 -c1 -w5 -s56 ::1 | grep -c '0% packet loss'", "1"),
        ("sudo ping -I lo -c1 -w5 -s56 127.0.0.1 | grep -c '0% packet loss'", "1"),
        ("grep -c ^processor /proc/cpuinfo", "1"),
        ("grep -c -E [vs]d.$ /proc/partitions", "2"),
        ("curl -V", "curl.*"),
        ("id -u; sh -c 'id -u'; cat /etc/shadow 2>/dev/null || echo denied", "1000\n1000\ndenied"),
        ("cat /sys/class/net/eth0/mtu", "1500"),
        ("sudo nc -p 80 -lk -e echo foolish >/dev/null 2>&1 & sleep 3; echo bar | nc -w 3 127.0.0.1 80", "foolish"),
        ("sudo nc -u -p 81 -lk -e echo foolish >/dev/null 2>&1 & sleep 3; echo b | nc -w 3 -u 127.0.0.1 81", "foolish"),
        ("ip -6 addr show dev eth0 | grep -c 'fec0::'", "1"),
        ("sudo mount /dev/vdb /mnt; ls /mnt; sudo umount /mnt", "openstack"),
    ],
)
def test_commands_that_conformance_tests_run(guest: Guest, command: str, expected: str) -> None:
    answer = guest.run(command)
    assert re.fullmatch(expected, answer), answer


def test_disk_is_hot_plugged_formatted_mounted_and_unplugged(guest: Guest) -> None:
    image = guest.folder / "extra.raw"
    image.write_bytes(b"")
    os.truncate(image, 64 * 2**20)
    guest.monitor.ask("blockdev-add", driver="file", **{"node-name": "extra", "filename": str(image)})
    guest.monitor.ask("device_add", driver="virtio-blk-pci", id="d1", drive="extra", bus="slot0", serial="volume-1")
    wait_for("the disk", lambda: "vdc" in guest.run("lsblk --nodeps --noheadings --output NAME"), 10)
    assert guest.run("cat /sys/block/vdc/serial") == "volume-1"
    guest.run("sudo mkfs -t ext4 /dev/vdc && sudo mkdir -p /mnt && sudo mount /dev/vdc /mnt")
    guest.run("sudo sh -c 'date > /mnt/timestamp; sync'; sudo cat /mnt/timestamp; sudo umount /mnt")
    guest.run("sudo mkfs.vfat /dev/vdc && sudo mount /dev/vdc /mnt && sudo umount /mnt")
    guest.monitor.ask("device_del", id="d1")
    wait_for("the disk to go", lambda: "vdc" not in guest.run("cat /proc/partitions"), 15)


def test_nic_is_hot_plugged_and_configured_by_dhcp(guest: Guest) -> None:
    guest.monitor.ask("device_add", driver="virtio-net-pci", id="nic1", netdev="n1", bus="slot1")
    wait_for("an address on eth1", lambda: "10.7.7.15/24" in guest.run("ip -o addr"), 15)
    guest.monitor.ask("device_del", id="nic1")
    wait_for("eth1 to go", lambda: "eth1" not in guest.run("ip -o link"), 15)
    wait_for("its DHCP client to go", lambda: "-i eth1" not in guest.run("ps"), 5)


def test_dhcp_options_for_routes_dns_and_mtu_are_obeyed(guest: Guest) -> None:
    """Calls the script of the DHCP client as udhcpc does; the first interface's default route is to stay first."""
    call = "sudo env interface={nic} ip={ip} mask=24 mtu={mtu} dns='{dns}' {route} /usr/lib/pileus/dhcp bound"
    static = "staticroutes='0.0.0.0/0 10.0.2.9 169.254.169.254/32 10.0.2.3 10.9.0.0/16 0.0.0.0' router=10.0.2.77"
    guest.run("sudo modprobe 8021q; sudo ip link add link eth0 name vlan7 type vlan id 7")
    guest.run("sudo ip link set vlan7 up; sudo mkdir -p /run/pileus/nic/vlan7")
    guest.run(call.format(nic="vlan7", ip="10.8.0.5", mtu=1300, dns="9.9.9.9", route="router=10.8.0.1"))
    guest.run(call.format(nic="eth0", ip="10.0.2.15", mtu=1400, dns="8.8.8.8 8.8.4.4", route=static))
    routes = guest.run("ip route").splitlines()
    defaults = [line for line in routes if line.startswith("default")]
    assert len(defaults) == 2
    metrics = [int(re.findall(r"metric (\d+)", line)[0]) for line in defaults]
    first = defaults[metrics.index(min(metrics))]
    assert "via 10.0.2.9 dev eth0" in first, "option 121 replaces the router option, and the first NIC wins"
    assert any(line.startswith("169.254.169.254 via 10.0.2.3 dev eth0") for line in routes)
    assert any(line.startswith("10.9.0.0/16 dev eth0") for line in routes)
    assert guest.run("cat /sys/class/net/eth0/mtu") == "1400"
    servers = guest.run("awk '/^nameserver/ {print $2}' /etc/resolv.conf").split()
    assert set(servers) == {"8.8.8.8", "8.8.4.4", "9.9.9.9"}
    guest.run("sudo ip link del vlan7")


def test_guest_agent_sets_the_password(guest: Guest) -> None:
    with guest.agent() as agent:
        assert agent.ask("guest-sync", id=4711) == 4711
        assert agent.ask("guest-ping") == {}
        agent.ask("guest-set-user-password", username="pileus", password="bmV3cGFzcw==", crypted=False)
        assert guest.password_login("newpass")
        assert agent.ask("guest-fsfreeze-freeze") == 1
        assert agent.ask("guest-fsfreeze-status") == "frozen"
        assert agent.ask("guest-fsfreeze-thaw") == 1
    guest.run("sudo touch /root/thawed; sync")


def test_power_button_shuts_down_cleanly(guest: Guest) -> None:
    guest.power_button()
    assert "reboot: Power down" in guest.console()


# QEMU starts this for each connection that the guest opens to 169.254.169.254.
METADATA_SERVER = """
import json, sys
path = sys.stdin.buffer.readline().split()[1].decode()
while sys.stdin.buffer.readline().strip():
    pass
body = json.load(open(sys.argv[1])).get(path, "").encode()
status = "200 OK" if body else "404 Not Found"
head = f"HTTP/1.0 {status}\\r\\nContent-Length: {len(body)}\\r\\nConnection: close\\r\\n\\r\\n"
sys.stdout.buffer.write(head.encode() + body)
"""


def boot_with_metadata(folder: Path, disk: Path, key: Path, pages: dict[str, str], runs: int) -> tuple[str, str]:
    """Boots the disk where 169.254.169.254 answers with `pages`; its name and SSH host key.

    User-data must have run `runs` times in the life of the disk when it goes down.
    """
    (folder / "pages.json").write_text(json.dumps(pages))
    (folder / "server.py").write_text(METADATA_SERVER)
    command = f"{sys.executable} -S {folder / 'server.py'} {folder / 'pages.json'}"
    forward = f"tcp:169.254.169.254:80-cmd:{command}"
    guest = Guest(folder, disk, key, net=f",net=169.254.169.0/24,host=169.254.169.2,guestfwd={forward}")
    try:
        guest.wait_for_console("guest ready")
        host_key = guest.run("sudo dropbearkey -y -f /etc/dropbear/dropbear_ed25519_host_key | grep ^ssh")
        name = guest.run("hostname")
        if "/latest/meta-data/hostname" in pages:
            assert guest.run("curl http://169.254.169.254/latest/meta-data/hostname") == f"{name}.novalocal"
        wait_for("user-data", lambda: len(guest.run("sudo cat /root/user-data-runs").split()) == runs, 10)
        guest.power_button()
        return name, host_key
    finally:
        guest.kill()


def test_disk_of_another_server_becomes_the_new_instance(tmp_path: Path, disk: Path) -> None:
    """Runs on the disk that the tests above have used as instance id-one."""
    new = make_key(tmp_path / "new", "ed25519")
    pages = {
        "/openstack/latest/meta_data.json": metadata("id-two", "web-2", [new]),
        "/openstack/latest/user_data": USER_DATA,
    }
    name, host_key = boot_with_metadata(tmp_path, disk, new, pages, 2)
    assert name == "web-2"
    # Nothing new: user-data has run for this instance, and the host key stays.
    assert boot_with_metadata(tmp_path, disk, new, pages, 2) == ("web-2", host_key)
    third = make_key(tmp_path / "third", "rsa")
    pages = {
        "/latest/meta-data/instance-id": "i-3",
        "/latest/meta-data/hostname": "web-3.novalocal",
        "/latest/meta-data/public-keys/": "0=mine",
        "/latest/meta-data/public-keys/0/openssh-key": third.with_suffix(".pub").read_text(),
        "/latest/user-data": USER_DATA,
    }
    name, other_key = boot_with_metadata(tmp_path, disk, third, pages, 3)
    assert name == "web-3"
    assert other_key != host_key, "a copied disk must not keep its host keys"


def test_boot_without_metadata_reaches_the_login_prompt(tmp_path: Path, disk: Path, keys: list[Path]) -> None:
    guest = Guest(tmp_path, disk, keys[0])
    try:
        guest.wait_for_console("login:")
        ready = re.search(r"guest ready ([\d.]+) s", guest.console())
        assert ready is not None
        assert float(ready[1]) < 25, "the boot waited for metadata that is not there"
    finally:
        guest.kill()
