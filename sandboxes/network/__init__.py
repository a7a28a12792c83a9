"""The network of a sandbox: the ports and hosts that it reaches, through us."""
