"""Tests; each folder mirrors the package it is named after."""
