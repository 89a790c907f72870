"""What exactly is meant: every ref, module, distribution and alias that a spec names is pinned. Ask, then fold."""
