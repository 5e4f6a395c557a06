"""Damage, crashes, full disks, wrong clocks: what a node does when its machine fails it."""
