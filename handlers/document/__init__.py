"""Documents: pictures of their pages."""
