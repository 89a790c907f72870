"""Windows of what was served against the reference: drift, live performance, alarms."""
