"""What goes over the network: the checkpoint channel, and everything else by httpx."""
