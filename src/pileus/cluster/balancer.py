"""HAProxy's configuration for a cloud's controllers: every API by the controllers that serve it, and the cluster port.

An API server takes part while its /healthz/ready says 200, which it does while its database answers. While it says
404, for that its database is away, it is sent nothing new where another is well, and ends what it is at. Where none is
well, as in an outage of the database, requests go to them all the same: their 503 says more than HAProxy's own, in the
shape that clients of that service read. One that does not answer is down, and its connections are ended. A request is
only ever sent a second time when it has not reached a server at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from pileus.settings import CLASSIC_PORTS

_SERVICES = tuple(CLASSIC_PORTS)
_GLOBAL = """\
global
    log stdout format raw local0 info
    maxconn 4000

defaults
    mode http
    log global
    option dontlognull
    option redispatch 1
    retries 3
    retry-on conn-failure
    # Long enough for a controller that waits for its database, and for uploads that stall for a while.
    timeout connect 3s
    timeout check 3s
    timeout queue 15s
    timeout http-request 30s
    timeout http-keep-alive 60s
    timeout client 10m
    timeout server 10m
    timeout tunnel 2h
"""


class Controller(msgspec.Struct, frozen=True, kw_only=True):
    """A controller as the balancer sees it: HOST:PORT of its APIs and its cluster port; no services means all."""

    name: str
    api: str
    cluster: str
    services: tuple[str, ...] = ()


class Front(msgspec.Struct, frozen=True, kw_only=True):
    """Where the balancer listens. `certificate` is a PEM file with key, for TLS; the cluster port has its own."""

    bind: str = "*"
    port: int = 8080
    cluster_port: int = 8443
    certificate: str = ""
    classic: bool = False


def render(controllers: Sequence[Controller], front: Front) -> str:
    """The whole configuration file."""
    parts = (_apis(controllers, front), _classic(controllers, front), _cluster(controllers, front))
    return "\n".join([_GLOBAL, *(line for part in parts for line in part)])


def _serving(controllers: Iterable[Controller], service: str) -> list[Controller]:
    return [each for each in controllers if each.api and (not each.services or service in each.services)]


def _apis(controllers: Sequence[Controller], front: Front) -> list[str]:
    lines = ["frontend apis", f"    bind {_bind(front, front.port)}", "    option httplog", "    option forwardfor"]
    if front.certificate:
        lines.append("    http-request set-header X-Forwarded-Proto https")
    backends: list[str] = []
    for service in _SERVICES:
        serving = _serving(controllers, service)
        if not serving:
            lines.append(f"    # no controller that lives serves {service}")
            continue
        paths = f"/{service} /console" if service == "compute" else f"/{service}"
        lines.append(f"    use_backend {service} if {{ path_beg {paths} }}")
        backends += [f"backend {service}", *_servers(serving), ""]
    anyone = [each for each in controllers if each.api]
    if anyone:
        lines.append("    default_backend anyone")
        backends += ["backend anyone", *_servers(anyone), ""]
    return [*lines, "", *backends]


def _servers(controllers: Sequence[Controller], port: int | None = None) -> list[str]:
    """The servers of a backend, checked, and again unchecked as the last resort. `port`: another than the API's."""
    lines = [
        "    balance leastconn",
        "    option httpchk GET /healthz/ready",
        "    http-check disable-on-404",
        "    option allbackups",
        "    default-server inter 2s fastinter 500ms fall 2 rise 2 on-marked-down shutdown-sessions",
    ]
    for each in controllers:
        check = f"check port {each.api.rpartition(':')[2]}" if port else "check"
        lines.append(f"    server {each.name} {_at(each.api, port)} {check}")
    return lines + [f"    server {each.name}-unchecked {_at(each.api, port)} backup" for each in controllers]


def _classic(controllers: Sequence[Controller], front: Front) -> list[str]:
    lines: list[str] = []
    for service, port in CLASSIC_PORTS.items() if front.classic else ():
        serving = _serving(controllers, service)
        if serving:
            lines += [
                f"frontend {service}-classic", f"    bind {_bind(front, port)}", "    option httplog",
                "    option forwardfor", f"    default_backend {service}-classic", "",
                f"backend {service}-classic", *_servers(serving, port), "",
            ]
    return lines


def _cluster(controllers: Sequence[Controller], front: Front) -> list[str]:
    """Nodes' connections pass through as they are: TLS is between node and controller."""
    there = [each for each in controllers if each.cluster]
    if not there:
        return []
    return [
        "listen cluster",
        f"    bind {front.bind}:{front.cluster_port}",
        "    mode tcp",
        "    option tcplog",
        "    option clitcpka",
        "    option srvtcpka",
        "    balance leastconn",
        "    default-server inter 2s fastinter 500ms fall 2 rise 2 on-marked-down shutdown-sessions",
        *(f"    server {each.name} {each.cluster} check" for each in there),
        "",
    ]


def _bind(front: Front, port: int) -> str:
    tls = f" ssl crt {front.certificate} alpn http/1.1" if front.certificate else ""
    return f"{front.bind}:{port}{tls}"


def _at(address: str, port: int | None) -> str:
    return address if port is None else f"{address.rpartition(':')[0]}:{port}"
