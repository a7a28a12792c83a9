"""Payloads of a trace store, by hash: those that are large lie in a folder or an object store beside the database."""
