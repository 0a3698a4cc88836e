"""The HTTP interface: routes over the service, on a Unix socket in the data folder and on a loopback port."""
