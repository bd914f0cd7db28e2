"""Connections and the catalogue of causes go in, findings come out."""
