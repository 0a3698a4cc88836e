"""Runs attempts on the nodes of a cluster: leases, the host of a slot, the gateway to the engine, the executor."""
