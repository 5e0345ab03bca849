"""Giving out the disks of a guest that is off: files as they are, read-only, over NBD with TLS.

What is given is the guest's own layer of its root disk, not what its image has, and no format is looked at here.
"""

from __future__ import annotations

import asyncio
import json
import time

from pileus.node.contract import MoveSource, NodeFault
from pileus.node.hypervisor.qemu import ports, process, psk
from pileus.node.hypervisor.qemu.commandline import json_safe
from pileus.node.hypervisor.qemu.files import Export, GuestFiles, Record
from pileus.node.hypervisor.qemu.host import Host

QUIT_TIMEOUT = 10.0


def marker(files: GuestFiles) -> str:
    """An argument of the process that gives out this guest's disks, which no other has."""
    return f"tls-creds-psk,id=tls,endpoint=server,dir={json_safe(str(files.exporting))}"


async def begin(host: Host, files: GuestFiles, record: Record) -> MoveSource:
    """Give the disks out; the caller records it. Raises NodeFault."""
    address = ports.own_address(host.settings)
    found = record.export
    if found is not None and process.alive(found.process):
        secret = await asyncio.to_thread(psk.read, files.exporting)
        if secret is not None:
            return MoveSource(host=address, secret=secret, disks=dict.fromkeys(found.disks, found.port))
    await end(files, record)
    secret = psk.fresh()
    await asyncio.to_thread(psk.write, files.exporting, secret, host.who)
    started = asyncio.ensure_future(asyncio.to_thread(_launch, host, files))
    try:
        record.export = await asyncio.shield(started)
    except asyncio.CancelledError:
        process.kill((await started).process)
        raise
    return MoveSource(host=address, secret=secret, disks=dict.fromkeys(record.export.disks, record.export.port))


def _launch(host: Host, files: GuestFiles) -> Export:
    known = {"root": files.root, "ephemeral0": files.ephemeral, "swap": files.swap}
    disks = {name: path for name, path in known.items() if path.exists()}
    ready = files.vnc.with_name("export.pid")
    ready.unlink(missing_ok=True)
    argv = [host.settings.storage_daemon, "--object", marker(files)]
    for name, path in disks.items():
        node = {"driver": "file", "node-name": name, "filename": str(path), "read-only": True}
        argv += ["--blockdev", json.dumps(node)]
    with ports.listen(host.settings) as made:
        argv += ["--nbd-server", f"addr.type=fd,addr.str={made.fileno()},tls-creds=tls"]
        for name in disks:
            argv += ["--export", f"type=nbd,id={name},node-name={name},name={name}"]
        # It writes its pid when all is set up; who it is we know by ourselves.
        argv += ["--pidfile", str(ready)]
        log = files.directory / "export.log"
        started = process.launch(argv, [made.fileno()], host.who, log)
        port = int(made.getsockname()[1])
    until = time.monotonic() + host.settings.start_timeout
    while not ready.exists():
        if not process.alive(started) or time.monotonic() > until:
            process.kill(started)
            said = log.read_text(errors="replace").strip().splitlines() or ["it did not say why"]
            raise NodeFault(f"the disks could not be given out: {said[-1]}")
        time.sleep(0.005)
    return Export(started, port, tuple(disks))


async def end(files: GuestFiles, record: Record) -> bool:
    """Stop giving the disks out; the caller records it. Whether there was anything to stop. Raises NodeFault."""
    found, record.export = record.export, None
    if found is None and not files.exporting.exists():
        return False
    if found is not None:
        process.kill(found.process)
        if not await process.ended(found.process, QUIT_TIMEOUT):
            raise NodeFault(f"process {found.process.pid}, which gives out the disks, cannot be ended")
    await asyncio.to_thread(psk.remove, files.exporting)
    files.vnc.with_name("export.pid").unlink(missing_ok=True)
    return True
