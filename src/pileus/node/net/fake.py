"""A network that carries nothing, for the fake hypervisor. It is only ever chosen by name."""

from __future__ import annotations

from pileus.node.contract import NetworkReport, NicSpec, NodeFault, NodeNetwork


class FakeNetworkDriver:
    """NetworkDriver that reports every enabled port up and touches no host."""

    name = "fake"
    settle = 0.5

    def __init__(self) -> None:
        self._state = NodeNetwork(revision=0)

    async def start(self) -> None:
        """Nothing to adopt."""

    async def stop(self) -> None:
        """Nothing to let go of."""

    async def apply(self, state: NodeNetwork) -> NetworkReport:
        """Remember the state, for inventory, and report its enabled ports up."""
        self._state = state
        up = tuple(port.id for port in state.ports if port.admin_state_up)
        return NetworkReport(revision=state.revision, ports_up=up, lease=state.lease)

    async def inventory(self) -> dict[str, set[str]]:
        """What was applied last."""
        return {
            "networks": {network.id for network in self._state.networks},
            "ports": {port.id for port in self._state.ports},
            "routers": {router.id for router in self._state.routers},
        }

    async def teardown(self) -> None:
        """Forget the state."""
        self._state = NodeNetwork(revision=0)

    async def open_tap(self, nic: NicSpec) -> int:
        """Always raises NodeFault."""
        raise NodeFault(f"port {nic.port_id}: the fake network has no taps; choose network driver 'bridge'")

    async def close_tap(self, port_id: str) -> None:
        """There is none, which is fine."""
