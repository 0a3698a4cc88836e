"""The log on PostgreSQL: the same records, the same bytes and the same hashes as in a file of SQLite."""
