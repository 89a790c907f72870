"""Models: their versions and aliases, and the hash-chained ledger of everything that happened to them."""
