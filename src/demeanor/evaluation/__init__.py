"""Metrics, receipts, comparison and figures."""
