"""The images on which guests of this node stand."""

from pileus.node.images.cache import ImageCache

__all__ = ["ImageCache"]
