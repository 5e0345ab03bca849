"""Whether guests run under KVM here: found out by running one, for /dev/kvm alone proves nothing."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from pileus.node.contract import NodeFault
from pileus.node.hypervisor.qemu.process import ENVIRONMENT, identity_options
from pileus.node.hypervisor.qemu.settings import Account, QemuSettings

PROBE = bytes.fromhex(
    # real mode: stack; zeroed page tables at 0x10000, one page of 2 MiB mapped onto itself
    "fa31c08ed0bc0080b800108ec031ffb9001831c0fcf3ab"
    "26c7060000031026c60602000126c7060010032026c60602100126c606002083"
    # the 64-bit part copied to 0x9000
    "8cc88ed8be9d00b800098ec031ffb92500f3a4"
    # descriptor table, physical address extension, long mode, paging; on to 0x9000
    "2e660f0116870066b8200000000f22e066b8000001000f22d8"
    "66b9800000c00f32660d000100000f300f20c0660d010000800f22c066ea009000000800"
    # the descriptor table: null, 64-bit code
    "0f008d000f00000000000000000000000000009a2000"
    # long mode: a loop with the stack, arithmetic in 64 bits, then 0x21 to port 0xf4
    "b9e80300005159e2fc48b8f0debc9a7856341248c1e8203d785634127504b021e6f4f4ebfd"
)
"""A guest's first 194 bytes: into long mode with paging, as every system goes, then out with a sign of life."""

SUCCESS = 0x21 << 1 | 1  # isa-debug-exit's status for that byte
TIMEOUT = 10.0


def firmware() -> bytes:
    """A BIOS of 64 KiB that runs the probe."""
    image = bytearray(b"\xf4" * 65536)
    image[: len(PROBE)] = PROBE
    image[0xFFF0:0xFFF5] = b"\xea\x00\x00\x00\xf0"  # reset: jump to f000:0000
    return bytes(image)


def probe(settings: QemuSettings, who: Account, accel: str) -> str:
    """Run the probe guest. Blocks up to ten seconds. Returns "" if it ran, else why it did not."""
    model = "host" if accel == "kvm" else "max"
    with tempfile.TemporaryDirectory(prefix="pileus-probe-") as directory:
        bios = Path(directory) / "bios"
        bios.write_bytes(firmware())
        bios.chmod(0o444)
        Path(directory).chmod(0o755)
        command = [settings.emulator, "-nodefaults", "-no-user-config", "-display", "none", "-m", "2"]
        command += ["-machine", "q35", "-accel", accel, "-cpu", model, "-bios", str(bios)]
        command += ["-device", "isa-debug-exit,iobase=0xf4,iosize=1"]
        try:
            done: subprocess.CompletedProcess[bytes] = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT,
                env=ENVIRONMENT,
                check=False,
                **identity_options(who),
            )
        except subprocess.TimeoutExpired:
            return f"a probe guest did not get through its first instructions in {TIMEOUT:.0f} seconds"
        except OSError as error:
            return f"{settings.emulator} could not be started: {error}"
    if done.returncode == SUCCESS:
        return ""
    lines = done.stderr.decode(errors="replace").strip().splitlines() or [f"QEMU ended with {done.returncode}"]
    return lines[0]


def choose(settings: QemuSettings, who: Account) -> str:
    """The accelerator for this node's guests: "kvm" or "tcg". Blocks.

    Raises NodeFault if KVM is insisted on and does not work, or the setting is unknown."""
    if settings.accel == "tcg":
        return "tcg"
    if settings.accel not in ("auto", "kvm"):
        raise NodeFault(f"accel '{settings.accel}' is unknown: use auto, kvm or tcg")
    if not Path("/dev/kvm").exists():
        why = "/dev/kvm does not exist: is virtualization enabled, and the module kvm_intel or kvm_amd loaded?"
    else:
        why = probe(settings, who, "kvm")
    if not why:
        return "kvm"
    if settings.accel == "kvm":
        raise NodeFault(f"guests do not run under KVM here: {why}")
    return "tcg"
