from __future__ import annotations

import asyncio

import pytest

from pileus.node.contract import NicSpec, NodeFault, NodeNetwork, PortState
from pileus.node.net.fake import FakeNetworkDriver


def test_enabled_ports_are_up_and_taps_are_refused() -> None:
    async def story() -> None:
        driver = FakeNetworkDriver()
        on, off = (
            PortState(id=name, network_id="n", mac="fa:16:3e:00:00:01", admin_state_up=name == "on")
            for name in ("on", "off")
        )
        report = await driver.apply(NodeNetwork(revision=7, ports=(on, off)))
        assert report.revision == 7
        assert report.ports_up == ("on",)
        assert (await driver.inventory())["ports"] == {"on", "off"}
        with pytest.raises(NodeFault, match="no taps"):
            await driver.open_tap(NicSpec(port_id="on", network_id="n", mac=on.mac))

    asyncio.run(story())
