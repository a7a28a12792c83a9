"""The pool: which sandbox is leased to whom, and what becomes of it afterwards."""
