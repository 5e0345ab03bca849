"""What `up` and `server` share: opening the sockets and the cloud, and serving."""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from pileus.cli import credentials, running
from pileus.settings import CLASSIC_PORTS, Settings

if TYPE_CHECKING:
    from pileus.cloud import Cloud

_PROGRAM = (sys.executable, os.__file__, __file__)


class NoAccount(Exception):
    """The account to run as cannot be had; says why."""


def serve(
    command: str, settings: Settings, log_to: TextIO, ready: Callable[[], None], *, agents: bool
) -> int:
    """Serve the cloud until it is stopped; the exit status. Calls `ready` when all APIs answer."""
    from pileus import serve as serving
    from pileus.cloud import Cloud
    from pileus.identity import registration
    from pileus.node.contract import NodeFault
    from pileus.web import log

    log.set_up(settings.log_format, settings.log_level, log_to)
    try:
        sockets = [("", serving.open_socket(settings.listen))]
        if settings.classic_ports:
            host = settings.listen.rpartition(":")[0]
            sockets += [(name, serving.open_socket(f"{host}:{port}")) for name, port in CLASSIC_PORTS.items()]
        cluster = serving.open_socket(settings.cluster_listen) if settings.cluster_listen else None
        cloud = Cloud(settings)
        cloud.open()
        identity = cloud.db.run_sync(lambda tx: registration.identity_url(tx, cloud), write=False)
    except (serving.ListenError, NodeFault, OSError) as error:
        print(f"{command}: {error}", file=sys.stderr)
        return 1

    def all_answer() -> None:
        password = running.credentials(settings)
        if password or not (settings.state / "clouds.yaml").exists():
            credentials.write(settings, password, identity)
        running.remember(settings, "up" if agents else "server")
        ready()

    status = 0
    try:
        serving.run(cloud, sockets, all_answer, agents=agents, cluster=cluster)
    except* NodeFault as group:
        for fault in group.exceptions:
            print(f"{command}: {fault}", file=sys.stderr)
        status = 1
    finally:
        cloud.close()
    return status


def give_to_server_user(settings: Settings) -> None:
    """Make the account that a controller runs as, if it is missing, and give it the state folder.

    Raises NoAccount. Does nothing unless root runs it."""
    if os.geteuid() != 0 or not settings.server_user or settings.server_user == "root":
        return
    try:
        account = pwd.getpwnam(settings.server_user)
    except KeyError:
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", settings.server_user]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and done.returncode != 9:  # 9: another process has made it meanwhile
            raise NoAccount(f"The account {settings.server_user} could not be made: {done.stderr.strip()}") from None
        account = pwd.getpwnam(settings.server_user)
    hidden = _hidden_from(account)
    if hidden is not None:
        raise NoAccount(
            f"The account {account.pw_name} cannot read {hidden}, without which nothing runs. Install Python and "
            "Pileus where every account can read them (as in /opt), or let the server run as root: "
            "--set server_user=root"
        )
    for folder in {settings.state, settings.run}:
        folder.mkdir(parents=True, exist_ok=True)
        _give(folder, account)


_NODES_OWN = frozenset({"instances", "net", "cache", "nodes", "member", "scratch"})
"""What a node keeps in a state folder: the server has no business with it."""


def _give(folder: Path, account: pwd.struct_passwd) -> None:
    """Give what root owns in a folder to the account.

    By file handles and never through links: the account has the folder already after the first time, and must not get
    root to give it anything else."""
    for _, folders, files, handle in os.fwalk(folder, follow_symlinks=False):
        folders[:] = [name for name in folders if name not in _NODES_OWN]
        for name in (*files, *folders, "."):
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(name, dir_fd=handle, follow_symlinks=False)
                linked = stat.S_ISREG(found.st_mode) and found.st_nlink > 1
                if found.st_uid == 0 and not linked:
                    os.chown(name, account.pw_uid, account.pw_gid, dir_fd=handle, follow_symlinks=False)


def _hidden_from(account: pwd.struct_passwd) -> str | None:
    """What of this very program the account cannot read; None when it can read all."""
    child = os.fork()
    if child == 0:
        status = 0
        try:
            os.setgroups([])
            os.setgid(account.pw_gid)
            os.setuid(account.pw_uid)
            for number, path in enumerate(_PROGRAM, 1):
                if not os.access(path, os.R_OK):
                    status = number
                    break
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return _PROGRAM[status - 1] if 0 < status <= len(_PROGRAM) else None


def become_owner(settings: Settings) -> None:
    """From here on, be the account that owns the state folder: nothing that root makes must shut the server out."""
    if os.geteuid() != 0:
        return
    with contextlib.suppress(FileNotFoundError):
        owner = settings.state.stat()
        if owner.st_uid != 0:
            os.setgroups([])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)
            os.environ["HOME"] = str(settings.state)


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Cloud]:
    """The cloud of this controller's database, for a command that reads or changes it. Raises SettingsError."""
    from pileus.cloud import Cloud
    from pileus.db.migrate import current
    from pileus.db.migrations import HEAD
    from pileus.settings import SettingsError

    become_owner(settings)
    url = settings.database_url
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        raise SettingsError(
            f"there is no cloud in {settings.state}; --state-dir or --config says where a controller keeps its own"
        )
    cloud = Cloud(settings)
    try:
        if current(cloud.db) != HEAD:
            raise SettingsError("the database is of another release; start the controller of this one first")
        yield cloud
    finally:
        cloud.close()
