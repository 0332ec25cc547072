"""Pacing one endpoint: how fast to send, learned from what the server says. Pure machines."""
