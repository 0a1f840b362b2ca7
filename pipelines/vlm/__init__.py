"""Asking a vision-language model: images and text in, a reply out, behind an endpoint or on this machine.

What is asked, and what a reply is worth, is the business of the steps (`recaption`, `judge`).
"""
