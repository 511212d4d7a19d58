"""Data, training, export and evaluation of the embedded model `reelsight-tiny`."""
