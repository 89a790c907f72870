"""One pass lowers one section of a spec into steps."""
