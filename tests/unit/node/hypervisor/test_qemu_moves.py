import asyncio
import contextlib
import struct
import subprocess
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from pileus.node.contract import MoveSource, MoveTarget, NodeFault, ServerSpec
from pileus.node.hypervisor.qemu import QemuSettings, exports, fetching, layout, ports, psk, sending, word
from pileus.node.hypervisor.qemu.files import Export, GuestFiles, Record
from pileus.node.hypervisor.qemu.guest import Guest
from pileus.node.hypervisor.qemu.host import Host
from pileus.node.hypervisor.qemu.layout import Layout
from pileus.node.hypervisor.qemu.process import ProcessId
from pileus.node.hypervisor.qemu.settings import Account

SPEC = ServerSpec(id="s-1", name="s", hostname="s", project_id="p", vcpus=1, memory_mib=64, root_gib=1)
LAYOUT = Layout(accel="tcg", machine="pc-q35-7.2", cpu="qemu64", ports=9, slots={"nic-a": 1}, disks={"root": 1 << 30})
SECRET = "ab" * 32


def host(directory: Path, **settings: Any) -> Host:
    made = Host(QemuSettings(state_dir=directory, **settings), cast(Any, None), cast(Any, None))
    made.instances.mkdir(exist_ok=True)
    return made


# ------------------------------------------------------------------------------------------------ layout


def test_a_layout_comes_back_and_gives_the_same_machine(tmp_path: Path) -> None:
    found = layout.decode(layout.encode(LAYOUT), host(tmp_path), SPEC)
    assert found == LAYOUT
    record = Record()
    layout.take(record, found)
    assert (record.machine, record.cpu, record.ports, record.slots) == ("pc-q35-7.2", "qemu64", 9, {"nic-a": 1})
    assert record.resumes == "running"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"accel": "kvm"}, "runs under kvm, this node has tcg"),
        ({"cpu": "max", "cpu_host": "QEMU 1"}, "set the same cpu_model"),
        ({"cpu": "host", "cpu_host": "Another Processor 0123"}, "set the same cpu_model"),
        ({"disks": {"../root": 1}}, "not known here"),
        ({"storage": "../../etc", "mark": ".move-00"}, "no folder of disks"),
        ({"storage": "other.00000000", "mark": ".move-00"}, "no folder of disks"),
        ({"storage": "s-1.00000000", "mark": "../x"}, "no folder of disks"),
    ],
)
def test_a_machine_that_cannot_be_here_is_refused(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    text = layout.encode(msgspec.structs.replace(LAYOUT, **changes))
    with pytest.raises(NodeFault, match=why):
        layout.decode(text, host(tmp_path), SPEC)


def test_storage_is_shared_when_the_file_of_this_moment_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "s-1.00000000"
    folder.mkdir()
    first = msgspec.structs.replace(LAYOUT, storage=folder.name, mark=layout._mark(folder))
    assert layout.shared(first, tmp_path)
    assert not layout.shared(first, tmp_path / "elsewhere")
    assert not layout.shared(first, None)
    second = msgspec.structs.replace(first, mark=layout._mark(folder))
    assert layout.shared(second, tmp_path)
    assert not layout.shared(first, tmp_path), "what was seen once proves nothing now"
    layout.unmark(folder)
    assert not layout.shared(second, tmp_path)


# --------------------------------------------------------------------------------- secrets, ports, the word


def test_a_secret_is_for_one_account_alone(tmp_path: Path) -> None:
    folder = tmp_path / "move"
    psk.write(folder, SECRET, Account())
    assert (folder / "keys.psk").read_text() == f"pileus:{SECRET}\n"
    assert (folder / "keys.psk").stat().st_mode & 0o777 == 0o600
    assert psk.read(folder) == SECRET
    psk.remove(folder)
    psk.remove(folder)
    assert psk.read(folder) is None
    for bad in ("", "no hex", "abcd", f"{SECRET}\nroot:{SECRET}"):
        with pytest.raises(NodeFault, match="secret"):
            psk.write(folder, bad, Account())
    assert len({psk.fresh() for _ in range(10)}) == 10


def test_the_group_is_the_one_that_is_said(tmp_path: Path) -> None:
    file = tmp_path / "group"
    file.write_bytes(psk.GROUP)
    said = subprocess.run(["openssl", "dhparam", "-in", str(file), "-noout", "-text", "-check"], capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert "ffdhe2048" in said.stdout
    assert "appear to be ok" in said.stdout + said.stderr


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_ports_are_free_and_of_the_range(address: str) -> None:
    with ports.listen(QemuSettings(state_dir=Path("/s"), address=address, move_ports=(20000, 40000))) as probe:
        taken = probe.getsockname()[1]
        assert 20000 <= taken <= 40000
        only = QemuSettings(state_dir=Path("/s"), address=address, move_ports=(taken, taken))
        with pytest.raises(NodeFault, match=f"{taken} to {taken}, on which guests move, are all in use"):
            ports.listen(only)
    with ports.listen(only) as made:
        assert made.getsockname()[1] == taken
    with pytest.raises(NodeFault, match="no address"):
        ports.listen(QemuSettings(state_dir=Path("/s")))
    with pytest.raises(NodeFault, match=r"cannot listen on its address 192\.0\.2\.1"):
        ports.listen(QemuSettings(state_dir=Path("/s"), address="192.0.2.1"))


def test_addresses_as_qemu_takes_them() -> None:
    assert ports.uri("10.0.0.1", 5) == "tcp:10.0.0.1:5"
    assert ports.uri("fd00::1", 5) == "tcp:[fd00::1]:5"


def test_only_who_knows_the_secret_lets_a_guest_go() -> None:
    async def work() -> None:
        heard: list[str] = []

        async def go() -> bool:
            heard.append("go")
            return True

        settings = QemuSettings(state_dir=Path("/s"), address="127.0.0.1")
        made = ports.listen(settings)
        port = made.getsockname()[1]
        server = await word.wait(made, "s-1", SECRET, go)
        target = MoveTarget(host="127.0.0.1", secret=SECRET, memory_port=0, word_port=port)
        try:
            assert not await word.give("s-1", msgspec.structs.replace(target, secret="cd" * 32))
            assert not await word.give("s-2", target)
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            assert heard == []
            assert await word.give("s-1", target)
            assert heard == ["go"]
        finally:
            server.close()
        assert not await word.give("s-1", target), "nobody listens any more"

    asyncio.run(asyncio.wait_for(work(), 10))


# ------------------------------------------------------------------------------------------------- disks


class Tool:
    def __init__(self) -> None:
        self.rebased: list[Path] = []

    def stand_on(self, path: Path, base: Path, base_format: str) -> None:
        self.rebased.append(path)


def header(*, magic: bytes = b"QFI\xfb", version: int = 3, features: int = 0) -> bytes:
    return magic + struct.pack(">I", version) + bytes(64) + struct.pack(">Q", features) + bytes(24)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no qcow2"),
        (header(magic=b"QEDx"), "no qcow2"),
        (header(version=2), "no qcow2 of version 3"),
        (header(features=fetching.EXTERNAL_DATA), "another file"),
        (header(features=fetching.EXTERNAL_DATA | 1), "another file"),
    ],
)
def test_a_root_disk_that_reaches_for_other_files_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    made = host(tmp_path)
    made.tool = cast(Any, Tool())
    disk = tmp_path / "disk"
    disk.write_bytes(content)
    with pytest.raises(NodeFault, match=why):
        fetching._stand_on(made, disk, Path("/c/base"), "qcow2")
    disk.write_bytes(header())
    fetching._stand_on(made, disk, Path("/c/base"), "qcow2")
    assert cast(Any, made.tool).rebased == [disk]


def test_disks_of_another_move_are_not_kept(tmp_path: Path) -> None:
    files, record = GuestFiles(tmp_path), Record()
    source = MoveSource(host="h", secret=SECRET, disks={})
    files.root.write_text("old")
    fetching.forget_others(files, record, source)
    assert not files.root.exists()
    files.root.write_text("complete")
    (tmp_path / "disk.eph0.tmp").write_text("half")
    fetching.forget_others(files, record, source)
    assert files.root.read_text() == "complete"
    assert not (tmp_path / "disk.eph0.tmp").exists()
    fetching.forget_others(files, record, msgspec.structs.replace(source, secret="cd" * 32))
    assert not files.root.exists()


def test_an_export_that_is_not_there_any_more_is_forgotten(tmp_path: Path) -> None:
    files, record = GuestFiles(tmp_path), Record(export=Export(ProcessId(4_194_303, 1, "b"), 5, ("root",)))
    psk.write(files.exporting, SECRET, Account())
    assert asyncio.run(exports.end(files, record))
    assert record.export is None
    assert psk.read(files.exporting) is None
    assert not asyncio.run(exports.end(files, record))


def test_disks_are_apart_where_a_folder_is_set(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    made = host(tmp_path, disks_dir=shared)
    guest = Guest(made, SPEC)
    guest.keep_disks_apart()
    asyncio.run(guest.make_folders())
    assert guest.files.root.parent.parent == shared
    assert not guest.record.lent
    guest.files.root.write_text("disk")
    # Found again, by a restarted agent and by another node that is to have the guest.
    assert Guest(made, SPEC).files.root.read_text() == "disk"
    (tmp_path / "other").mkdir()
    other = Guest(host(tmp_path / "other", disks_dir=shared), SPEC)
    other.keep_disks_apart()
    assert other.files.root.read_text() == "disk"
    assert other.record.lent, "until it runs there it is not that node's to remove"
    guest.files.remove(disks=False)
    assert other.files.root.exists()
    other.files.remove()
    assert list(shared.iterdir()) == []


def test_what_a_move_has_not_yet_brought_is_not_started(tmp_path: Path) -> None:
    guest = Guest(host(tmp_path), SPEC)
    for phase in ("", "moved"):
        guest.record.phase = phase
        guest.must_belong_here()
    for phase in ("taking", "incoming"):
        guest.record.phase = phase
        with pytest.raises(NodeFault, match="has not come to this node"):
            guest.must_belong_here()


@pytest.mark.parametrize(("phase", "after"), [("incoming", "taking"), ("moved", "moved"), ("sending", "")])
def test_what_is_left_without_qemu(tmp_path: Path, phase: str, after: str) -> None:
    guest = Guest(host(tmp_path), SPEC)
    guest.files.directory.mkdir()
    guest.record.phase = phase
    guest.record.target = MoveTarget(host="h", secret=SECRET, memory_port=1)
    guest.record.power = "running" if phase == "sending" else "shutdown"
    power = asyncio.run(guest.adopt(None))
    record = guest.files.read_record()
    assert record.phase == after
    assert (record.target is not None) == (phase == "moved")
    assert power == ("crashed" if phase == "sending" else None), "only of a guest of its own the node tells"


# ------------------------------------------------------------------------------------------ going away


class Qmp:
    """A QEMU that remembers what it was told, and says what it shall say."""

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "query-status": {"status": "running"}, "query-migrate": {}, "query-jobs": [],
            "query-named-block-nodes": [], **{name.replace("_", "-"): value for name, value in answers.items()},
        }  # fmt: skip
        self.told: list[str] = []

    async def execute(self, command: str, /, **arguments: Any) -> Any:
        answer = self.answers.get(command, {})
        if command.startswith("query"):
            return answer(self) if callable(answer) else answer
        self.told.append(" ".join([command, *(str(arguments[key]) for key in ("id", "device") if key in arguments)]))
        return {}

    @contextlib.asynccontextmanager
    async def expect(self, matches: Callable[[str, Any], bool]) -> AsyncIterator[asyncio.Future[Any]]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.set_result({})
        yield future


def sender(directory: Path, qmp: Qmp) -> Guest:
    guest = Guest(host(directory), SPEC)
    guest.files.directory.mkdir(exist_ok=True)
    guest.record.process = ProcessId(0, 1, "b")
    guest.record.power, guest.record.phase, guest.record.resumes = "running", "sending", "running"
    guest.record.target = MoveTarget(host="127.0.0.1", secret=SECRET, memory_port=1, word_port=1, disks=("root",))
    guest.monitor = cast(Any, qmp)
    return guest


def test_a_guest_that_has_itself_arrived_is_not_taken_for_gone() -> None:
    arrived = {"query_migrate": {"status": "completed"}}
    assert not asyncio.run(sending.going(cast(Any, Qmp(**arrived))))
    assert asyncio.run(sending.going(cast(Any, Qmp(query_status={"status": "postmigrate"}, **arrived))))
    assert asyncio.run(sending.going(cast(Any, Qmp(query_migrate={"status": "active"}))))


def job(status: str, **more: Any) -> dict[str, Any]:
    return {"id": "move-root", "status": status, "current-progress": 1, "total-progress": 2, **more}


def test_a_mirror_that_failed_does_not_let_the_guest_go(tmp_path: Path) -> None:
    qmp = Qmp(
        query_migrate={"status": "pre-switchover"}, query_jobs=[job("concluded", error="the wire was cut")]
    )
    guest = sender(tmp_path, qmp)
    target = guest.record.target
    assert target is not None
    with pytest.raises(NodeFault, match="the wire was cut"):
        asyncio.run(sending._watch(guest, cast(Any, qmp), target, None))
    assert "migrate-continue" not in " ".join(qmp.told)
    with pytest.raises(NodeFault, match="the wire was cut"):
        asyncio.run(sending._mirrored(guest, cast(Any, qmp), target))


def test_a_guest_is_let_be_as_it_was(tmp_path: Path) -> None:
    def migrate(qmp: Qmp) -> dict[str, str]:
        return {"status": "cancelled" if "migrate_cancel" in qmp.told else "active"}

    def jobs(qmp: Qmp) -> list[dict[str, Any]]:
        if "job-dismiss move-root" in qmp.told:
            return []
        return [job("concluded" if "block-job-cancel move-root" in qmp.told else "running")]

    qmp = Qmp(query_status={"status": "paused"}, query_migrate=migrate, query_jobs=jobs)
    guest = sender(tmp_path, qmp)
    asyncio.run(sending.clear(guest))
    assert qmp.told[:3] == ["migrate_cancel", "block-job-cancel move-root", "job-dismiss move-root"]
    assert qmp.told[-1] == "cont", "forced to stand still, it goes on"
    assert (guest.record.phase, guest.record.target) == ("", None)

    paused = Qmp(query_status={"status": "paused"})
    guest = sender(tmp_path, paused)
    guest.record.resumes = "paused"
    asyncio.run(sending.clear(guest))
    assert "cont" not in paused.told


def test_it_is_recorded_that_a_guest_is_gone_before_its_new_node_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest = sender(tmp_path, Qmp())
    seen: list[str] = []

    async def give(server_id: str, target: MoveTarget) -> bool:
        seen.append(guest.files.read_record().phase)
        await asyncio.sleep(0.05)
        return True

    async def end(power: str, **_: object) -> None:
        seen.append("ended")

    monkeypatch.setattr(word, "give", give)
    monkeypatch.setattr(guest, "end", end)

    async def work() -> None:
        task = asyncio.create_task(sending.finish(guest))
        await asyncio.sleep(0.02)
        task.cancel()
        await task

    asyncio.run(work())
    assert seen == ["moved", "ended"], "who breaks it off now waits for its end"


def test_a_move_that_had_hardly_begun_is_taken_back_by_the_next_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    qmp = Qmp(query_status={"status": "paused"})
    guest = sender(tmp_path, qmp)
    asyncio.run(sending.carry_on(guest))
    assert (guest.record.phase, guest.power, qmp.told[-1]) == ("", "running", "cont")

    guest = sender(tmp_path, Qmp(query_status={"status": "shutdown"}))
    told: list[tuple[str, str]] = []

    async def tell(server_id: str, power: str) -> None:
        told.append((server_id, power))

    async def end(power: str, **_: object) -> None:
        guest.record.power, guest.record.process = power, None

    monkeypatch.setattr(guest, "end", end)
    monkeypatch.setattr(guest.host, "tell", tell)
    asyncio.run(sending.carry_on(guest))
    assert told == [(SPEC.id, "shutdown")], "it ended by itself while no agent was there"


def test_an_abort_ends_it_and_a_stall_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qmp = Qmp(query_migrate={"status": "active", "ram": {"transferred": 5}})
    guest = sender(tmp_path, qmp)
    target = guest.record.target
    assert target is not None
    monkeypatch.setattr(sending, "STALLED", 0.01)
    with pytest.raises(NodeFault, match="made no progress"):
        asyncio.run(asyncio.wait_for(sending._watch(guest, cast(Any, qmp), target, None), 5))
    guest.abort = True
    with pytest.raises(NodeFault, match="was aborted"):
        asyncio.run(sending._watch(guest, cast(Any, qmp), target, None))


def test_where_qemu_loses_writes_the_guest_stands_still() -> None:
    assert sending.loses_writes("tcg", 7_002_022)
    assert not sending.loses_writes("tcg", 9_000_000)
    assert not sending.loses_writes("kvm", 7_002_022)


def test_progress_is_of_disks_and_memory(tmp_path: Path) -> None:
    ram = {"total": 100, "transferred": 30, "remaining": 70}
    guest = sender(tmp_path, Qmp(query_migrate={"status": "active", "ram": ram}, query_jobs=[job("ready")]))
    found = asyncio.run(sending.progress_of(guest))
    assert (found.memory_total, found.memory_done, found.memory_left) == (100, 30, 70)
    assert (found.disk_total, found.disk_done, found.disk_left) == (2, 1, 1)
    guest.record.phase = ""
    assert asyncio.run(sending.progress_of(guest)).memory_total == 0
