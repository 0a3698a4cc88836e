"""The worker process: how an attempt is run, watched and answered for."""
