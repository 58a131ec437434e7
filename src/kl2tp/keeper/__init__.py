"""The keeper: a small process that holds the daemon's descriptors, so that what hangs on them outlives the daemon."""
