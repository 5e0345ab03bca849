"""The node's network: what carries the traffic between guests, routers and the outside.

`bridge` builds it from the kernel's own parts; `fake` builds nothing, for the fake hypervisor.
"""
