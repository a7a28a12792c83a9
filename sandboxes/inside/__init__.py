"""What runs inside a sandbox: standard library only, and little of that, for every sandbox pays for its start-up.

The host imports the frame codec and the file helper from here; nothing here imports the host's side.
"""
