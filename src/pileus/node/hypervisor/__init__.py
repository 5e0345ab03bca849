"""What makes and runs guests: `qemu` for real ones, `fake` (only ever chosen by name) for speed and scale."""
