//! ONNX Runtime: library discovery, sessions on their own threads.
