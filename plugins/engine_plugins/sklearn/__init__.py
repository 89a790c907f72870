"""Trainer `sklearn`: any scikit-learn classifier or regressor with an ONNX form, on columns as they come."""
