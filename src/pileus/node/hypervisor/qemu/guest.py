"""One guest: its files, its process and its monitor, and how they begin, end and are found again.

The callers in `driver` hold `lock`; what runs by itself here takes it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import msgspec

from pileus.node.contract import GuestState, NicSpec, NodeFault, ServerSpec, VolumeSpec
from pileus.node.hypervisor.qemu import disks, exports, nics, process, psk, saving, snapshots, volumes
from pileus.node.hypervisor.qemu.commandline import Machine, build, wants_agent
from pileus.node.hypervisor.qemu.disks import Bases, volume_device
from pileus.node.hypervisor.qemu.files import GuestFiles, Record
from pileus.node.hypervisor.qemu.host import Host
from pileus.node.hypervisor.qemu.layout import default_cpu
from pileus.node.hypervisor.qemu.listeners import listening
from pileus.node.hypervisor.qemu.monitor import Event, Monitor, MonitorGone
from pileus.node.hypervisor.qemu.nics import Nic
from pileus.node.hypervisor.qemu.process import ProcessId
from pileus.threads import to_its_end

QUIT_TIMEOUT = 15.0
REMAINS = {"moved": "moved", "incoming": "taking", "taking": "taking"}
"""What there is of a guest without its QEMU that is not this node's own, by the phase it was in."""
ASK_AGAIN = 10.0
"""Seconds after which a guest is asked again to shut down: one that is booting misses the first request."""


class Guest:
    """A guest of this node, running or not."""

    def __init__(self, host: Host, spec: ServerSpec) -> None:
        self.host = host
        self.spec = spec
        self.files = GuestFiles(host.instances / spec.id)
        self.record = self.files.read_record()
        if self.record.storage:
            self.files.put_disks(host.storage(self.record.storage))
        self.monitor: Monitor | None = None
        self.paused = False
        self.lock = asyncio.Lock()
        self.abort = False  # a move that goes on is to end
        self.word: asyncio.Server | None = None
        self._asked_to_end = False

    # ------------------------------------------------------------------------------------------ looking

    @property
    def running(self) -> bool:
        """Whether it has a QEMU."""
        return self.record.process is not None

    @property
    def power(self) -> str:
        if self.record.power == "running" and self.paused:
            return "paused"
        return self.record.power

    @property
    def marker(self) -> str:
        """An argument of this guest's QEMU that no other process has."""
        return f"unix:{self.files.vnc}"

    def state(self) -> GuestState:
        """The guest as it is. Looks at its files."""
        return GuestState(
            id=self.spec.id,
            power=self.power,
            pid=self.record.process.pid if self.record.process else None,
            vcpus=self.spec.vcpus,
            memory_mib=self.spec.memory_mib,
            disk_bytes=self.files.disk_bytes(),
        )

    def qmp(self) -> Monitor:
        """The monitor. Raises NodeFault if the guest does not run or its QEMU does not answer."""
        if not self.running:
            raise NodeFault(f"server {self.spec.id} does not run: it is {self.power}; start it first")
        if self.monitor is None:
            raise MonitorGone(f"the QEMU of server {self.spec.id} does not answer; try again, or reboot it hard")
        return self.monitor

    def forget(self) -> None:
        """Be as a guest of which nothing is known yet."""
        self.record = Record()
        self.files = GuestFiles(self.files.directory)

    # ---------------------------------------------------------------------------------------- beginning

    async def save(self, *, spec: bool = False) -> None:
        """Write what must be known after a restart."""
        await to_its_end(self.files.write, self.spec if spec else None, self.record)

    async def change(
        self, *, nics: tuple[NicSpec, ...] | None = None, volumes: tuple[VolumeSpec, ...] | None = None
    ) -> None:
        """Record that it has other NICs or volumes now."""
        if nics is not None:
            self.spec = msgspec.structs.replace(self.spec, nics=nics)
        if volumes is not None:
            self.spec = msgspec.structs.replace(self.spec, volumes=volumes)
        await self.save(spec=True)

    async def bases(self) -> Bases:
        """The local files of its images, fetched if they are missing. Raises NodeFault."""
        images, spec = self.host.images, self.spec
        return Bases(
            root=await images.path(spec.image) if spec.image else None,
            rescue=await images.path(spec.rescue_image) if spec.rescue_image else None,
        )

    def keep_disks_apart(self) -> None:
        """Choose the folder of its disks, if the node keeps them elsewhere. A single one that is there already is what
        another node has left, whose guests come back here: it is not removed if that does not come off."""
        if self.host.settings.disks_dir is None or self.record.storage:
            return
        found = [folder.name for folder in self.host.settings.disks_dir.glob(f"{self.spec.id}.*")]
        self.record.lent = len(found) == 1
        self.use_storage(found[0] if len(found) == 1 else self.host.new_storage(self.spec.id))

    def use_storage(self, folder: str) -> None:
        """Have its disks in a folder of that name."""
        self.record.storage = folder
        self.files.put_disks(self.host.storage(folder))

    async def make_folders(self) -> None:
        """Make the folders that are missing, and record first what has to be removed with them."""
        self.files.directory.mkdir(mode=0o711, exist_ok=True)
        await self.save()
        await to_its_end(self.files.make, self.host.who)

    def must_belong_here(self) -> None:
        """Raises NodeFault for what a move has not yet brought. One that is gone is started again by who says so: the
        controller knows whether it ever ran elsewhere."""
        if self.record.phase in ("incoming", "taking"):
            raise NodeFault(f"server {self.spec.id} has not come to this node: its move has to end first")

    async def start(self, bases: Bases, *, incoming: bool = False) -> None:
        """Start QEMU and let the guest go, from its saved memory if `incoming`. Raises NodeFault.

        The guest executes nothing before everything about its process is recorded."""
        self.must_belong_here()
        self.record.shown = {}
        await exports.end(self.files, self.record)
        await asyncio.to_thread(disks.prepare, self.spec, self.files, bases, self.host.tool)
        if not incoming:
            await asyncio.to_thread(self.files.forget_memory)
            self._assign()
        async with self.beginning(bases, incoming) as monitor:
            await self._complete(monitor, incoming)
            self.record.lent, self.record.target = False, None
            self.record.power = "running"
            self.record.phase = "resuming" if incoming else ""
            self.monitor, self.paused, self._asked_to_end = monitor, False, False
            await self.save(spec=True)
            if incoming:
                # From here on the disks are ahead of the saved memory, which must never be used again.
                await asyncio.to_thread(self.files.memory.unlink)
            await monitor.execute("cont")
            if incoming:
                await self._settle()

    @contextlib.asynccontextmanager
    async def beginning(self, bases: Bases, incoming: bool) -> AsyncIterator[Monitor]:
        """A QEMU that has started, its guest not: what goes wrong meanwhile ends it again. Raises NodeFault."""
        monitor = Monitor(f"guest {self.spec.id}", self._event, self._closed, self.host.settings.answer_timeout)
        try:
            self.record.process = await self._launch(bases, incoming)
            await monitor.connect(self.files.qmp, self.host.settings.start_timeout)
            yield monitor
        except BaseException as error:
            await asyncio.shield(self._undo_start(monitor, incoming))
            if isinstance(error, MonitorGone):
                raise NodeFault(f"QEMU did not start: {self._last_words() or error}") from error
            raise

    async def _launch(self, bases: Bases, incoming: bool) -> ProcessId:
        spec, settings = self.spec, self.host.settings
        async with nics.open_taps(self.host.taps, spec.nics) as fds:
            with listening(self.files, wants_agent(spec)) as listeners:
                slots = self.record.slots
                machine = Machine(
                    spec=spec,
                    files=self.files,
                    accel=self.host.accel,
                    machine=self.record.machine,
                    cpu=self.record.cpu,
                    ports=self.record.ports,
                    disks=tuple(disks.local_disks(spec, self.files, bases)),
                    nics=tuple(
                        Nic(spec=nic, slot=slots[nics.device_id(nic.port_id)], fd=fd)
                        for nic, fd in zip(spec.nics, fds, strict=True)
                    ),
                    listeners=listeners.numbers,
                    incoming=incoming,
                )
                argv = build(machine, settings)
                passed = [*fds, *listeners.fds]
                started = asyncio.ensure_future(
                    asyncio.to_thread(process.launch, argv, passed, self.host.who, self.files.log)
                )
                try:
                    return await asyncio.shield(started)
                except asyncio.CancelledError:
                    process.kill(await started)
                    raise

    def _assign(self) -> None:
        """Give each NIC and volume its port; some stay free for hot plug."""
        wanted = [nics.device_id(nic.port_id) for nic in self.spec.nics]
        found = [volume_device(volume.volume_id) for volume in volumes.in_order(self.spec)]
        self.record.scsi = {}
        if disks.bus(self.spec) == "scsi":
            self.record.scsi = {device: volumes.FIRST_SCSI + number for number, device in enumerate(found)}
        else:
            wanted += found
        self.record.machine = self.host.machine
        self.record.cpu = self.host.settings.cpu_model or default_cpu(self.host.accel)
        self.record.slots = {device: number for number, device in enumerate(wanted)}
        self.record.ports = len(wanted) + self.host.settings.spare_ports

    @contextlib.asynccontextmanager
    async def taking_slot(self, device: str, *, scsi: bool = False) -> AsyncIterator[int]:
        """A port, or an id on the SCSI controller, for a device that is plugged in meanwhile, recorded first and given
        back if that fails. Raises NodeFault if there is none."""
        taken = self.record.scsi if scsi else self.record.slots
        slot = taken.setdefault(device, self._free_scsi() if scsi else self._free_slot(device))
        await self.save()
        try:
            yield slot
        except BaseException:
            taken.pop(device, None)
            raise

    def _free_scsi(self) -> int:
        for number in range(volumes.FIRST_SCSI, volumes.LAST_SCSI + 1):
            if number not in self.record.scsi.values():
                return number
        raise NodeFault(f"the SCSI controller of server {self.spec.id} has no room for more volumes")

    def _free_slot(self, device: str) -> int:
        used = {slot for name, slot in self.record.slots.items() if name != device}
        for number in range(self.record.ports):
            if number not in used:
                return number
        raise NodeFault(f"all {self.record.ports} slots of server {self.spec.id} are taken: reboot it hard for more")

    def volume_slot(self, volume_id: str) -> int | None:
        """The port of a volume; None if it is on the SCSI controller."""
        return self.record.slots.get(volume_device(volume_id))

    def shown(self, device: str) -> str:
        """How QEMU calls a device: a volume that has taken the place of another has the name of that."""
        return self.record.shown.get(device, device)

    @property
    def keys(self) -> volumes.Keys:
        return volumes.Keys(self.files.volumes, self.host.who)

    async def plug_volumes(self, monitor: Monitor) -> bool:
        """Give it its volumes; whether it may boot from one."""
        # With an image, index 0 is the root disk.
        least = 1 if self.spec.image else 0
        bootable = False
        for volume in volumes.in_order(self.spec):
            boots = volume.boot_index is not None and volume.boot_index >= least
            bootable = bootable or boots
            scsi = self.record.scsi.get(volume_device(volume.volume_id))
            slot = self.volume_slot(volume.volume_id)
            await volumes.plug(monitor, volume, slot, self.keys, scsi_id=scsi, bootable=boots)
        return bootable

    async def _complete(self, monitor: Monitor, incoming: bool) -> None:
        bootable = await self.plug_volumes(monitor)
        if incoming:
            await saving.load(monitor, self.files.memory)
        elif bootable:
            # The boot order is put together at a reset.
            await monitor.execute("system_reset")

    async def _settle(self) -> None:
        self.record.phase = ""
        await self.save()

    async def _undo_start(self, monitor: Monitor, incoming: bool) -> None:
        self.monitor = None
        await monitor.close()
        if self.record.process is not None:
            process.kill(self.record.process)
            await process.ended(self.record.process, QUIT_TIMEOUT)
        self.record.process = None
        self.record.phase = ""
        saved = incoming and self.files.memory.exists()
        self.record.power = "suspended" if saved else "shutdown"
        await self.save()
        await self.close_taps()

    def _last_words(self) -> str:
        with contextlib.suppress(OSError):
            lines = self.files.log.read_text(errors="replace").strip().splitlines()
            return lines[-1] if lines else ""
        return ""

    # ------------------------------------------------------------------------------------------- ending

    async def shut_down(self, within: float) -> bool:
        """Ask by ACPI and wait so many seconds; whether the guest did. Its QEMU is still there, stopped."""
        monitor = self.qmp()
        until = time.monotonic() + within
        async with monitor.expect(lambda name, data: name == "SHUTDOWN") as down:
            while (left := until - time.monotonic()) > 0:
                if (await monitor.execute("query-status"))["status"] == "shutdown":
                    return True
                await monitor.execute("system_powerdown")
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(down), min(ASK_AGAIN, left))
                    return True
        return False

    async def end(self, power: str, *, at_once: bool = False, keep_taps: bool = False) -> None:
        """End QEMU, by its own orderly way unless `at_once`, and record the state that remains."""
        monitor, running = self.monitor, self.record.process
        self.monitor, self.paused = None, False
        self.hear_no_more()
        after = REMAINS.get(self.record.phase, "")
        if running is not None and not after:  # whoever finds it without a process knows that it was meant
            self.record.phase = f"ending:{power}"
            await self.save()
        if monitor is not None:
            if not at_once:
                with contextlib.suppress(NodeFault):
                    await monitor.execute("quit")
            await monitor.close()
        if running is not None:
            patience = 0.0 if at_once or monitor is None else QUIT_TIMEOUT
            if not await process.ended(running, patience):
                process.kill(running)
                if not await process.ended(running, QUIT_TIMEOUT):
                    raise NodeFault(
                        f"process {running.pid} of server {self.spec.id} cannot be ended: is its disk stuck?"
                    )
        self.record.process, self.record.power, self.record.resumes = None, power, ""
        self.record.phase = after
        if after != "moved":
            self.record.target = None
        await self.save()
        await asyncio.to_thread(psk.remove, self.files.moving)
        if not keep_taps:
            await self.close_taps()

    def hear_no_more(self) -> None:
        """Wait no longer to be told that the guest has left its old node."""
        if self.word is not None:
            self.word.close()
            self.word = None

    async def close_taps(self) -> None:
        for nic in self.spec.nics:
            await self.host.taps.close_tap(nic.port_id)

    # ------------------------------------------------------------------------------- changes by itself

    def _event(self, monitor: Monitor, name: str, data: Event) -> None:
        if monitor is not self.monitor:
            return
        if name == "STOP":
            self.paused = True
        elif name == "RESUME":
            self.paused = False
        elif name == "SHUTDOWN" and data.get("guest"):
            self.host.later(self._went_down(monitor))
        elif name == "SHUTDOWN":
            self._asked_to_end = True
        elif name == "BLOCK_IO_ERROR" and data.get("action") == "stop":
            self.host.later(self.host.tell(self.spec.id, "paused"))

    def _closed(self, monitor: Monitor) -> None:
        if monitor is self.monitor:
            self.host.later(self._lost(monitor))

    async def _went_down(self, monitor: Monitor) -> None:
        async with self.lock:
            if self.monitor is not monitor:
                return
            with contextlib.suppress(NodeFault):
                if (await monitor.execute("query-status"))["status"] != "shutdown":
                    return
            await self.end("shutdown")
        await self.host.tell(self.spec.id, "shutdown")

    async def _lost(self, monitor: Monitor) -> None:
        async with self.lock:
            if self.monitor is not monitor or self.record.process is None:
                return
            self.monitor = None
            gone = await process.ended(self.record.process, 5.0)
            away = self.record.phase in ("incoming", "moved")
            if gone:
                await self.end("shutdown" if self._asked_to_end or away else "crashed")
        if gone and not away:
            await self.host.tell(self.spec.id, self.record.power)
        if not gone:
            await self.reconnect()

    async def reconnect(self) -> None:
        """Try to reach a QEMU that runs but does not answer, until it does or has ended."""
        while True:
            await asyncio.sleep(1.0)
            async with self.lock:
                running = self.record.process
                if self.monitor is not None or running is None:
                    return
                power = await self.adopt(running)
            if self.monitor is not None and self.host.on_adopted is not None:
                await self.host.on_adopted(self.spec.id)
            if power is not None:
                await self.host.tell(self.spec.id, power)
                return

    # ----------------------------------------------------------------------------------------- adoption

    async def adopt(self, found: ProcessId | None) -> str | None:
        """Take up a guest that an earlier agent left, with its process if it has one.

        Returns its power if it changed meanwhile. If QEMU does not answer, `reconnect` has to follow."""
        if found is None or not process.alive(found):
            return await self._adopt_without_process()
        self.record.process = found
        monitor = Monitor(f"guest {self.spec.id}", self._event, self._closed, self.host.settings.answer_timeout)
        try:
            await monitor.connect(self.files.qmp, 5.0)
            status = (await monitor.execute("query-status"))["status"]
        except NodeFault:
            await monitor.close()
            return None if process.alive(found) else await self._adopt_without_process()
        except BaseException:
            await monitor.close()
            raise
        self.monitor = monitor
        return await self._adopt_by_status(monitor, str(status))

    async def _adopt_without_process(self) -> str | None:
        before, record = self.record.power, self.record
        ended_by = record.phase.removeprefix("ending:") if record.phase.startswith("ending:") else ""
        rebooted = record.process is not None and record.process.boot_id != process.boot_id()
        power = before
        if before == "running":
            power = ended_by or ("shutdown" if rebooted else "crashed")
        if before == "suspended" and not self.files.memory.exists():
            power = "shutdown"
        await self.end(power)
        return power if power != before else None

    async def _adopt_by_status(self, monitor: Monitor, status: str) -> str | None:
        record = self.record
        if record.phase.startswith("ending:"):
            await self.end(record.phase.removeprefix("ending:"))
            return None
        if record.phase in ("incoming", "sending", "moved"):
            self.paused = status != "running" if record.phase == "incoming" else record.resumes == "paused"
            return None  # who adopts all goes on with the move
        if record.resumes == "running" and status == "paused":
            await monitor.execute("cont")  # it had arrived, and was let go but for this
            status = "running"
        record.resumes = ""
        if status in ("prelaunch", "inmigrate") or (status == "paused" and record.power == "suspended"):
            # A start that was cut off before the guest's first instruction: as if it had not been.
            await self.end("suspended" if self.files.memory.exists() else "shutdown", at_once=True)
            return None
        if status == "shutdown":
            await self.end("shutdown")
            return "shutdown"
        self.paused = status not in ("running", "finish-migrate", "postmigrate")
        record.power = "running"
        await snapshots.clear(monitor)
        if record.phase in ("suspending", "resuming"):
            await self.take_back_suspend(monitor)
        await self.save()
        return None

    async def take_back_suspend(self, monitor: Monitor) -> None:
        """Let a guest go on whose suspend or resume was cut off."""
        with contextlib.suppress(NodeFault):
            await monitor.execute("migrate_cancel")
        for _ in range(100):
            if (await monitor.execute("query-migrate")).get("status") not in ("active", "setup", "cancelling"):
                break
            await asyncio.sleep(0.05)
        self.files.memory.unlink(missing_ok=True)
        await monitor.execute("cont")
        self.paused = False
        self.record.phase = ""
