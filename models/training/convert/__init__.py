"""Converts published weights into model folders: a GGUF of SmolLM2 to ONNX, and graphs to fewer bits."""
