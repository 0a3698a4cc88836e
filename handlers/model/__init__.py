"""3-D models: pictures of them, without a graphics card."""
