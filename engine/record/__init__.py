"""What can be proved later: each execution of a run as an in-toto statement in SLSA's words, written once."""
