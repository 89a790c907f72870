"""What will be done: a directed acyclic graph of steps, compiled from a resolved spec without touching the world."""
