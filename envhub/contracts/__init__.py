"""What every room agrees on: records and protocols, no I/O."""
