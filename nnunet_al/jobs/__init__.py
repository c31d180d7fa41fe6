"""Campaigns as jobs for a scheduler: the plan, the scripts, and the state of each job."""
