"""Flows of all vantage points go in, connections come out: each the same TCP connection seen from everywhere."""
