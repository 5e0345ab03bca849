"""What can go wrong while a guest image is built."""


class BuildError(Exception):
    """The image was not built; the message names the part, the reason and the way out."""

    code = "guest-image-build-failed"
