"""PostgreSQL under a trace store."""
