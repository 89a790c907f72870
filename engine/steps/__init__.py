"""What a step does: one module a kind, each a function of its inputs, its parameters and a context."""
