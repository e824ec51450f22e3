"""Parametric used parts: geometry, wear and photographs of them; the catalogue of what exists and where it is used."""
