"""The report on campaigns: tables, figures and one HTML page."""
