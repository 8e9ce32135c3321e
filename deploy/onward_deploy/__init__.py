"""The command line `onward`: run a function locally, serve it, send events, look at runs."""
