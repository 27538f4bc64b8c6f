"""The door made for media: HTTP in front, decoding in worker processes, one model thread, and a page."""
