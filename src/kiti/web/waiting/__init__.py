"""The line before a trip that very many people want."""
