"""The host's side of a sandbox's agent: requests, sessions, what is copied in and out. The other side is inside/."""
