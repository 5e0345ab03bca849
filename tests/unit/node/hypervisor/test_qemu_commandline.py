import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pileus.node.contract import ConfigDriveFile, ImageRef, NicSpec, NodeFault, ServerSpec, VolumeSpec
from pileus.node.hypervisor.qemu import QemuSettings, disks, volumes
from pileus.node.hypervisor.qemu.commandline import Listeners, Machine, build
from pileus.node.hypervisor.qemu.disks import Bases
from pileus.node.hypervisor.qemu.files import GuestFiles
from pileus.node.hypervisor.qemu.nics import Nic

ID = "6d1c8f9e-8f7a-4b6e-9a53-6f0a7b1c2d3e"
IMAGE = ImageRef(id="i", disk_format="qcow2", size=1, sha512="0" * 128)
SPEC = ServerSpec(id=ID, name="n", hostname="n", project_id="p", vcpus=2, memory_mib=128, root_gib=1, image=IMAGE)
NIC = NicSpec(port_id="11111111-2222", network_id="net", mac="fa:16:3e:00:00:01", mtu=1400)
SETTINGS = QemuSettings(state_dir=Path("/s"))


def machine(spec: ServerSpec = SPEC, accel: str = "tcg", **more: Any) -> Machine:
    files = GuestFiles(Path("/s/instances") / spec.id)
    bases = Bases(root=Path("/c/base"), rescue=Path("/c/rescue"))
    return Machine(
        spec=spec,
        files=files,
        accel=accel,
        machine="pc-q35-7.2",
        ports=9,
        disks=tuple(disks.local_disks(spec, files, bases)),
        nics=tuple(Nic(spec=nic, slot=n, fd=50 + n) for n, nic in enumerate(spec.nics)),
        listeners=Listeners(qmp=10, serial=11),
        **more,
    )


def change(**changes: Any) -> ServerSpec:
    return msgspec.structs.replace(SPEC, **changes)


def options(argv: list[str], name: str) -> list[str]:
    return [argv[n + 1] for n, argument in enumerate(argv) if argument == name]


def devices(argv: list[str]) -> dict[str, dict[str, Any]]:
    found = [json.loads(text) for text in options(argv, "-device") if text.startswith("{")]
    return {device["id"]: device for device in found}


def test_it_is_confined_and_starts_stopped() -> None:
    argv = build(machine(), SETTINGS)
    assert options(argv, "-sandbox") == ["on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"]
    assert {"-nodefaults", "-no-user-config", "-S"} <= set(argv)
    assert options(argv, "-action") == ["shutdown=pause,reboot=reset"]
    assert options(argv, "-uuid") == [ID]
    assert options(argv, "-vnc") == [f"unix:/s/instances/{ID}/run/vnc.sock"]
    assert "-incoming" not in argv


@pytest.mark.parametrize(("accel", "cpu", "text"), [("tcg", "max", "tcg,tb-size=32"), ("kvm", "host", "kvm")])
def test_accelerators(accel: str, cpu: str, text: str) -> None:
    argv = build(machine(accel=accel), SETTINGS)
    assert options(argv, "-cpu") == [cpu]
    assert options(argv, "-accel") == [text]
    assert "accel=" not in options(argv, "-machine")[0]


@pytest.mark.parametrize(("accel", "cpu"), [("tcg", "qemu64"), ("kvm", "qemu64,enforce")])
def test_a_processor_that_is_set_must_be_there(accel: str, cpu: str) -> None:
    assert options(build(machine(accel=accel, cpu="qemu64"), SETTINGS), "-cpu") == [cpu]
    assert options(build(machine(accel="kvm", cpu="host"), SETTINGS), "-cpu") == ["host"]


def test_every_block_device_names_its_driver_down_to_the_file() -> None:
    spec = change(ephemeral_gib=1, swap_mib=64, config_drive=(ConfigDriveFile(path="a", content=b""),))
    nodes = [json.loads(text) for text in options(build(machine(spec), SETTINGS), "-blockdev")]
    assert [node["node-name"] for node in nodes] == ["root", "ephemeral0", "swap", "config"]
    root = nodes[0]
    assert root["driver"] == "qcow2"
    assert root["discard"] == "unmap"
    assert root["backing"]["driver"] == "qcow2"
    assert root["backing"]["backing"] is None, "the base's own header must not decide what is opened"
    assert root["backing"]["read-only"] is True
    assert root["backing"]["file"] == {"driver": "file", "filename": "/c/base", "read-only": True}
    assert nodes[3]["read-only"] is True


def test_disks_have_the_bus_of_the_image_and_the_root_boots() -> None:
    assert devices(build(machine(), SETTINGS))["disk-root"] == {
        "id": "disk-root",
        "drive": "root",
        "driver": "virtio-blk-pci",
        "bootindex": 1,
    }
    argv = build(machine(change(image_properties={"hw_disk_bus": "scsi"})), SETTINGS)
    assert devices(argv)["disk-root"]["driver"] == "scsi-hd"
    assert "virtio-scsi-pci,id=scsi0" in options(argv, "-device")
    for bus in ("sata", "ide"):
        argv = build(machine(change(image_properties={"hw_disk_bus": bus}, ephemeral_gib=1)), SETTINGS)
        assert devices(argv)["disk-root"]["bus"] == "ide.0"
        assert devices(argv)["disk-ephemeral0"]["bus"] == "ide.1"


def test_rescue_boots_from_the_other_image_with_the_root_second() -> None:
    argv = build(machine(change(rescue_image=IMAGE)), SETTINGS)
    assert [json.loads(text)["node-name"] for text in options(argv, "-blockdev")] == ["rescue", "root"]
    assert devices(argv)["disk-rescue"]["bootindex"] == 0
    assert devices(argv)["disk-root"]["bootindex"] == 1


def test_a_config_drive_can_be_a_cd() -> None:
    drive = (ConfigDriveFile(path="a", content=b""),)
    argv = build(machine(change(config_drive=drive, image_properties={"hw_cdrom_bus": "sata"})), SETTINGS)
    assert devices(argv)["disk-config"]["driver"] == "ide-cd"
    assert devices(build(machine(change(config_drive=drive)), SETTINGS))["disk-config"]["bus"] == "last"


def test_nics_come_as_descriptors_on_their_ports() -> None:
    argv = build(machine(change(nics=(NIC,))), SETTINGS)
    assert options(argv, "-netdev") == ["tap,id=tap-11111111-2222,fd=50"]
    assert devices(argv)["nic-11111111-2222"] == {
        "driver": "virtio-net-pci",
        "id": "nic-11111111-2222",
        "netdev": "tap-11111111-2222",
        "mac": NIC.mac,
        "bus": "port0",
        "romfile": "",
        "host_mtu": 1400,
    }


def test_ports_are_enough_and_each_on_its_own_address() -> None:
    ports = [text for text in options(build(machine(), SETTINGS), "-device") if text.startswith("pcie-root-port")]
    assert len(ports) == 10
    fields = [dict(part.split("=") for part in text.split(",")[1:]) for text in ports]
    assert len({field["addr"] for field in fields}) == 10
    assert len({field["chassis"] for field in fields}) == 10
    assert [field["id"] for field in fields if field.get("multifunction")] == ["port0", "port8"]


def test_no_volume_stands_in_the_command_line() -> None:
    connection = {"driver": "iscsi", "portal": "p", "target": "t", "lun": 1, "user": "u", "password": "hidden"}
    volume = VolumeSpec(attachment_id="a", volume_id="the-volume", device="vdb", connection=connection)
    argv = build(machine(change(volumes=(volume,))), SETTINGS)
    assert "hidden" not in " ".join(argv)
    assert "the-volume" not in " ".join(argv)


def test_volumes_over_qmp() -> None:
    connection = {"driver": "raw", "file": {"driver": "file", "filename": "/v"}}
    volume = VolumeSpec(
        attachment_id="a", volume_id=ID, device="vdb", connection=connection, boot_index=0, read_only=True
    )
    node = disks.volume_blockdev(volume)
    assert len(node["node-name"]) <= 31
    assert node["read-only"] is True
    assert node["discard"] == "unmap"
    virtio = volumes.device(volume, 3, bootable=True)
    assert virtio["bus"] == "port3"
    assert virtio["serial"] == ID[:20]
    assert virtio["bootindex"] == 1
    scsi = volumes.device(volume, None, bootable=False)
    assert (scsi["driver"], scsi["serial"]) == ("scsi-hd", ID)
    assert "bootindex" not in scsi
    assert volumes.device(volume, None, bootable=False, scsi_id=17)["scsi-id"] == 17


@pytest.mark.parametrize(
    ("properties", "extra", "text"),
    [
        ({}, {}, "cpus=2,sockets=2,cores=1,threads=1"),
        ({"hw_cpu_cores": "2"}, {}, "cpus=2,sockets=1,cores=2,threads=1"),
        ({"hw_cpu_sockets": "1"}, {}, "cpus=2,sockets=1,cores=2,threads=1"),
        ({"hw_cpu_cores": "2"}, {"hw:cpu_cores": "1"}, "cpus=2,sockets=2,cores=1,threads=1"),
    ],
)
def test_topology(properties: dict[str, str], extra: dict[str, str], text: str) -> None:
    argv = build(machine(change(image_properties=properties, extra_specs=extra)), SETTINGS)
    assert options(argv, "-smp") == [text]


@pytest.mark.parametrize(
    ("properties", "why"),
    [
        ({"hw_machine_type": "pc"}, "hw_machine_type 'pc'"),
        ({"hw_firmware_type": "uefi"}, "hw_firmware_type 'uefi'"),
        ({"hw_video_model": "cirrus"}, "hw_video_model"),
        ({"hw_disk_bus": "floppy"}, "hw_disk_bus"),
        ({"hw_cpu_cores": "3"}, "topology"),
        ({"hw_cpu_cores": "many"}, "not a number"),
        ({"architecture": "aarch64"}, "aarch64"),
    ],
)
def test_what_is_not_possible_is_said(properties: dict[str, str], why: str) -> None:
    with pytest.raises(NodeFault, match=why):
        build(machine(change(image_properties=properties)), SETTINGS)


def test_an_unknown_nic_model_is_refused() -> None:
    with pytest.raises(NodeFault, match="hw_vif_model 'sungem'"):
        build(machine(change(nics=(msgspec.structs.replace(NIC, model="sungem"),))), SETTINGS)
