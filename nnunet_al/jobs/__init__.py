"""Campaigns as jobs for a scheduler: what there is to do, scripts that do it, and where it stands."""
