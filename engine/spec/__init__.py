"""What was written: a spec, where each of its keys stands, and what is wrong with it."""
