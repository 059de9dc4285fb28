"""Real peers on loopback that the tests talk to."""
