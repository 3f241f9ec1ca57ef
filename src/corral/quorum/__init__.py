"""Many servers as one: election, discovery, synchronisation, broadcast."""
