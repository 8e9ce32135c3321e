"""Every decision that Onward takes, without IO, clocks or randomness: they come in as arguments."""
