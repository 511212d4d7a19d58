"""Twins: small models with random weights and the architecture, files and rules of published families.

Needs numpy and onnx alone, and gives the same folder for the same seed anywhere, so nothing of it is committed. What
transformers makes of the same weights is committed (golden.py).
"""
