"""Load: requests that arrive at a fixed rate whether or not the ones before them are answered."""
