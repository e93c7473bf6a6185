"""Statements as CSV, as a spreadsheet, and on paper."""
