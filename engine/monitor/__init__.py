"""What watches a model that serves: detectors, the budget of false alarms, windows, live performance."""
