"""Task types for pictures: thumbnails and conversions."""
