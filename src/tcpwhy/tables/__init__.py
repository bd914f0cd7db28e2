"""Evidence files go in, tables come out: one reader a source."""
