"""Fetching images over HTTP: politely, within limits, and with a reason for every row that stays without its image."""
