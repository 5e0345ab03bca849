"""Guests under QEMU, driven directly over QMP; they outlive the agent and are found again."""

from pileus.node.hypervisor.qemu.driver import Qemu
from pileus.node.hypervisor.qemu.settings import QemuSettings

__all__ = ["Qemu", "QemuSettings"]
