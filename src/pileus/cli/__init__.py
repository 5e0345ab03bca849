"""The command line: `pileus up`, `status`, `down`, `destroy`, `doctor`, `demo`, `image`, `docs`."""
