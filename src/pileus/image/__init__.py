"""Image: the disk images that servers boot from."""
