"""Checks what tasktrail needs of this machine and of the data folder, and names a remedy for each fault."""
