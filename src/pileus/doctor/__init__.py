"""Judges a cloud from outside: does what the database says agree with itself and with what the host shows?

The judge reads tables, `/proc`, namespaces and files itself, not through the rooms' functions: those are what is
judged. It changes nothing: the database is opened read-only, no driver is started, no lock is taken; so it works while
the cloud runs and when it is down. A finding's `check` is one of these:

unsettled    something is being done yet: a server with a task_state or in BUILD, an open task, an upload. Not wrong
             by itself; `--wait` waits for it
tasks        a task is open long past its deadline
servers      a server is active, stopped, … on no node, or has an action under way that no task stands for
allocations  each placed server holds in placement what its flavor says, nobody else holds anything, and each
             inventory's count is the sum of its allocations
ports        each compute port belongs to a living server and is bound to its node, each server's own port exists,
             each address belongs to a port
floating     each floating IP has its port with its address outside, and inside a port that has the fixed address,
             behind a router that leads outside; on the host the address is in the router's namespace
groups       each project with guests' ports has exactly one default security group, and no port is in a group that
             is not there
guests       each running server has exactly one process, each other one none; each folder and process of a guest
             belongs to a server that is on this node
network      the host carries the namespaces of exactly those networks and routers that the node shall have
taps         each port of a running guest has its tap in the network's namespace, and there is no other tap
dhcp         each network whose DHCP is served here has exactly one DHCP server in its namespace, and no other runs
images       each active image has a file of its size, each file an image; an image that waits for a snapshot has
             the task that makes it
nodes        each node that has joined answers, and was judged; `--without` names those that are gone for ever: they are
             not asked, and what they are still to do is not waited for
cache        the file that a guest's disk stands on is in the node's cache, at its full size
"""
