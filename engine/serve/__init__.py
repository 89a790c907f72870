"""Models that answer: the ONNX Runtime session, and the servers round it."""
