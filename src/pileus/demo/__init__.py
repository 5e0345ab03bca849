"""The story that shows what the cloud does, told with the official `openstack` client and nothing else."""
